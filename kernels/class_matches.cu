// Class mates among the first k neighbors of each point, for many k in one pass over the table (CHI).
//
// Mathematics: matches[r, s] = |{ c < ks[s] : y of neighbors[r, c] = y of owners[r] }|, ks ascending;
// CHI(k) is the mean of matches / k over the labeled rows. Counts are integers: exact and in no need of an order.
// Reference: (codes[neighbors] == codes[owners, None]).cumsum(1)[:, ks - 1] in NumPy, as clorg_scale/measures.py has it.
//
// Bytes: an index and a gathered code an entry (codes stay in L2), 4 bytes a row and k written: 1.28M x 1000 neighbors
// 5.1 GB + gathers, about 3 ms at 4 TB/s if the gathers hit L2. FLOPs: none.
// Launch: one thread a row, blocks of 128, grid-stride: a thread goes through consecutive entries of its row, so every
// sector it fetches is used whole, out of L1. Rows without a label get -1. Offsets are 64 bits wide; INDEX is the
// type of node ids.

#ifndef INDEX
#define INDEX int
#endif

extern "C" __global__ void class_matches(const INDEX* neighbors, const long long* owners, const int* codes, long long rows,
                                         int width, const int* ks, int n_ks, int* matches) {
  long long step = (long long)gridDim.x * blockDim.x;
  for (long long r = (long long)blockIdx.x * blockDim.x + threadIdx.x; r < rows; r += step) {
    int code = codes[owners[r]];
    int count = 0, c = 0;
    for (int s = 0; s < n_ks; ++s) {
      for (; c < ks[s]; ++c) {
        long long j = neighbors[r * width + c];
        count += j >= 0 && codes[j] == code;
      }
      matches[r * n_ks + s] = code < 0 ? -1 : count;
    }
  }
}
