extern "C" void column_sum_2ac6cd997040(const float* __restrict in0, float* __restrict out0, const int threads) {
  #pragma omp parallel for schedule(static) num_threads(threads)
  for (int64_t i0_block = 0; i0_block < 768; i0_block += 32) {
    lw::vec<float> sum_so_far_0[4] = {0.0f, 0.0f, 0.0f, 0.0f};
    for (int64_t r0 = 0; r0 < 128; ++r0) {
      for (int part = 0; part < 4; ++part) {
        const int64_t i0 = i0_block + part * 8;
        const auto in0_0 = lw::load(in0 + i0 + 768*r0, lw::all);
        sum_so_far_0[part] = sum_so_far_0[part] + in0_0;
      }
    }
    for (int part = 0; part < 4; ++part) {
      const int64_t i0 = i0_block + part * 8;
      const auto sum_0 = sum_so_far_0[part];
      lw::store(out0 + i0, sum_0, lw::all);
    }
  }
}
