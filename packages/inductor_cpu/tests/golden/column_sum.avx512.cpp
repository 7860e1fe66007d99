extern "C" void column_sum_a77ebf2e2ea5(const float* __restrict in0, float* __restrict out0, const int threads) {
  #pragma omp parallel for schedule(static) num_threads(threads)
  for (int64_t i0 = 0; i0 < 768; i0 += 16) {
    lw::vec<float> sum_so_far_0 = 0.0f;
    for (int64_t r0 = 0; r0 < 128; ++r0) {
      const auto in0_0 = lw::load(in0 + i0 + 768*r0, lw::all);
      sum_so_far_0 = sum_so_far_0 + in0_0;
    }
    lw::store(out0 + i0, sum_so_far_0, lw::all);
  }
}
