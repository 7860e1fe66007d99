extern "C" void scaled_clamp_28f54254364f(const float* __restrict in0, float* __restrict out0, const double f0, const double f1, const int threads) {
  const float number_0 = lw::convert<float>(f0);
  const float number_1 = lw::convert<float>(f1);
  #pragma omp parallel for schedule(static) num_threads(threads)
  for (int64_t i0 = 0; i0 < 128; ++i0) {
    for (int64_t i1 = 0; i1 < 768; i1 += 4) {
      const auto in0_0 = lw::load(in0 + 768*i0 + i1, lw::all);
      const auto mul_0 = in0_0 * number_0;
      const auto add_0 = mul_0 + number_0;
      const auto gt_0 = add_0 > number_1;
      const auto where_0 = lw::where(gt_0, lw::vec<float>(number_1), add_0);
      lw::store(out0 + 768*i0 + i1, where_0, lw::all);
    }
  }
}
