extern "C" void add_gelu_c161060c9970(const float* __restrict in0, const float* __restrict in1, float* __restrict out0, const int threads) {
  #pragma omp parallel for schedule(static) num_threads(threads)
  for (int64_t i0 = 0; i0 < 128; ++i0) {
    for (int64_t i1 = 0; i1 < 3072; i1 += 4) {
      const auto in0_0 = lw::load(in0 + 3072*i0 + i1, lw::all);
      const auto in1_0 = lw::load(in1 + i1, lw::all);
      const auto add_0 = in0_0 + in1_0;
      const auto mul_0 = add_0 * 0.5f;
      const auto mul_1 = add_0 * 0.70710677f;
      const auto erf_0 = lw::erf(mul_1);
      const auto add_1 = erf_0 + 1.0f;
      const auto mul_2 = mul_0 * add_1;
      lw::store(out0 + 3072*i0 + i1, mul_2, lw::all);
    }
  }
}
