// What the modularity of given labels on a sparse graph is made of, in float64.
//
// Mathematics: rows (n) of CSR weights a_ij, class codes y (negative: in no class);
//   k_i = sum_j a_ij      w_i = sum_{j: y_j = y_i} a_ij      K_c = sum_{i in c} k_i      W_c = sum_{i in c} w_i
//   Q = sum_c [ W_c / 2m - resolution (K_c / 2m)^2 ],   2m = sum_i k_i
// Reference: `_sums_on_cpu` of clorg_scale/communities/modularity.py.
//
// Bytes: row_sums reads an index and a weight (8 bytes with int32) and gathers a code (a 32-byte sector of 4 n bytes
// that stay in L2: 5 MB at 1.28M points) an entry, writes 16 bytes a row: 1.28M x 25 entries, 256 MB, 0.1 ms at 4 TB/s.
// FLOPs: 2 an entry, float64. class_sums reads 20 bytes a point.
// Launch: row_sums one thread a row, blocks of 256, grid-stride. class_sums one thread for RUN consecutive points: it adds
// up while the class stays the same and does one atomic a run, so points in class order cost n / RUN atomics. Their
// order moves the float64 sums by some 1e-16. Offsets are 64 bits wide; INDEX is the type of node ids and of indptr.

#ifndef INDEX
#define INDEX int
#endif
#define RUN 64

extern "C" __global__ void row_sums(const INDEX* indptr, const INDEX* indices, const float* weights, const int* codes,
                                    long long n, double* total, double* own) {
  long long step = (long long)gridDim.x * blockDim.x;
  for (long long i = (long long)blockIdx.x * blockDim.x + threadIdx.x; i < n; i += step) {
    int code = codes[i];
    double k = 0.0, w = 0.0;
    for (long long e = indptr[i]; e < (long long)indptr[i + 1]; ++e) {
      double a = weights[e];
      k += a;
      if (code >= 0 && codes[indices[e]] == code) w += a;
    }
    total[i] = k;
    own[i] = w;
  }
}

// W, K (C,) zero before.
extern "C" __global__ void class_sums(const int* codes, const double* total, const double* own, long long n, double* W,
                                      double* K) {
  long long step = (long long)gridDim.x * blockDim.x * RUN;
  for (long long start = ((long long)blockIdx.x * blockDim.x + threadIdx.x) * RUN; start < n; start += step) {
    long long stop = start + RUN < n ? start + RUN : n;
    double w = 0.0, k = 0.0;
    for (long long i = start; i < stop; ++i) {
      w += own[i];
      k += total[i];
      if (i + 1 == stop || codes[i + 1] != codes[i]) {
        if (codes[i] >= 0) {
          atomicAdd(W + codes[i], w);
          atomicAdd(K + codes[i], k);
        }
        w = k = 0.0;
      }
    }
  }
}
