extern "C" void total_c0186aaf1267(const float* __restrict in0, float* __restrict out0, const int threads) {
  float partial_0[16];
  #pragma omp parallel for schedule(static) num_threads(threads)
  for (int64_t chunk = 0; chunk < 16; ++chunk) {
    lw::cascade<lw::vec<float>> sum_so_far_0[4];
    for (int64_t r0_block = chunk * 65536; r0_block < lw::minimum<int64_t>(chunk * 65536 + 65536, 1048576); r0_block += 16)
      for (int part = 0; part < 4; ++part) {
        const int64_t r0 = r0_block + part * 4;
        const auto in0_0 = lw::load(in0 + r0, lw::all);
        sum_so_far_0[part].take(in0_0);
      }
    partial_0[chunk] = lw::sum_lanes(((sum_so_far_0[0].total() + sum_so_far_0[1].total()) + (sum_so_far_0[2].total() + sum_so_far_0[3].total())));
  }
  float total_0 = partial_0[0];
  for (int64_t chunk = 1; chunk < 16; ++chunk)
    total_0 = total_0 + partial_0[chunk];
  out0[0] = total_0;
}
