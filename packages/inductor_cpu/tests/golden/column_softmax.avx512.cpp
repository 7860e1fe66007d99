extern "C" void column_softmax_bc1311a9dd4e(const float* __restrict in0, float* __restrict out0, const int threads) {
  #pragma omp parallel for schedule(static) num_threads(threads)
  for (int64_t i0 = 0; i0 < 768; i0 += 16) {
    alignas(64) float local0[192];
    lw::vec<float> max_so_far_0 = -__builtin_inff();
    for (int64_t r0 = 0; r0 < 12; ++r0) {
      const auto in0_0 = lw::load(in0 + i0 + 768*r0, lw::all);
      max_so_far_0 = lw::maximum(max_so_far_0, in0_0);
    }
    lw::vec<float> sum_so_far_0 = 0.0f;
    for (int64_t r0 = 0; r0 < 12; ++r0) {
      const auto in0_1 = lw::load(in0 + i0 + 768*r0, lw::all);
      const auto sub_0 = in0_1 - max_so_far_0;
      const auto exp_0 = lw::exp(sub_0);
      lw::store(local0 + 16*r0, exp_0, lw::all);
      sum_so_far_0 = sum_so_far_0 + exp_0;
    }
    const auto reciprocal_0 = lw::vec<float>(1) / sum_so_far_0;
    for (int64_t r0 = 0; r0 < 12; ++r0) {
      const auto local0_0 = lw::load(local0 + 16*r0, lw::all);
      const auto mul_0 = local0_0 * reciprocal_0;
      lw::store(out0 + i0 + 768*r0, mul_0, lw::all);
    }
  }
}
