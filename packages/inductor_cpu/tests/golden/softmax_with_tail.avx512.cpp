extern "C" void softmax_d876dcb94bd7(const float* __restrict in0, float* __restrict out0, const int threads) {
  #pragma omp parallel for schedule(static) num_threads(threads)
  for (int64_t i0 = 0; i0 < 300; ++i0) {
    alignas(64) float local0[197];
    lw::vec<float> max_so_far_0[4] = {-__builtin_inff(), -__builtin_inff(), -__builtin_inff(), -__builtin_inff()};
    const auto step_0 = [&](const int64_t r0, const auto active, const int part) LW_LAMBDA {
      const auto in0_0 = lw::load(in0 + 197*i0 + r0, active);
      max_so_far_0[part] = lw::maximum(max_so_far_0[part], lw::keep(active, in0_0, lw::vec<float>(-__builtin_inff())));
    };
    for (int64_t r0_block = 0; r0_block < 192; r0_block += 64)
      for (int part = 0; part < 4; ++part)
        step_0(r0_block + part * 16, lw::all, part);
    step_0(192, lw::first(5), 0);
    const float max_0 = lw::max_lanes(lw::maximum(lw::maximum(max_so_far_0[0], max_so_far_0[1]), lw::maximum(max_so_far_0[2], max_so_far_0[3])));
    lw::vec<float> sum_so_far_0[4] = {0.0f, 0.0f, 0.0f, 0.0f};
    const auto step_1 = [&](const int64_t r0, const auto active, const int part) LW_LAMBDA {
      const auto in0_1 = lw::load(in0 + 197*i0 + r0, active);
      const auto sub_0 = in0_1 - max_0;
      const auto exp_0 = lw::exp(sub_0);
      lw::store(local0 + r0, exp_0, active);
      sum_so_far_0[part] = sum_so_far_0[part] + lw::keep(active, exp_0, lw::vec<float>(0.0f));
    };
    for (int64_t r0_block = 0; r0_block < 192; r0_block += 64)
      for (int part = 0; part < 4; ++part)
        step_1(r0_block + part * 16, lw::all, part);
    step_1(192, lw::first(5), 0);
    const float sum_0 = lw::sum_lanes(((sum_so_far_0[0] + sum_so_far_0[1]) + (sum_so_far_0[2] + sum_so_far_0[3])));
    const auto step_2 = [&](const int64_t r0, const auto active) LW_LAMBDA {
      const auto local0_0 = lw::load(local0 + r0, active);
      const auto truediv_0 = local0_0 / sum_0;
      lw::store(out0 + 197*i0 + r0, truediv_0, active);
    };
    for (int64_t r0 = 0; r0 < 192; r0 += 16)
      step_2(r0, lw::all);
    step_2(192, lw::first(5));
  }
}
