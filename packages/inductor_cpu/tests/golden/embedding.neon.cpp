extern "C" void embedding_e8b9043c1bcf(const int64_t* __restrict in0, const float* __restrict in1, float* __restrict out0, lw::status* failed, const int threads) {
  #pragma omp parallel for schedule(static) num_threads(threads)
  for (int64_t i0 = 0; i0 < 128; ++i0) {
    const int64_t in0_0 = in0[i0];
    const int64_t position_0 = lw::checked(in0_0, 30522, failed);
    for (int64_t i1 = 0; i1 < 768; i1 += 4) {
      const auto in1_0 = lw::load(in1 + i1 + 768*position_0, lw::all);
      lw::store(out0 + 768*i0 + i1, in1_0, lw::all);
    }
  }
}
