// Weighted sampling of neighbors without replacement, for minibatches of graph probes.
//
// Reference: `_inclusion_scale` and `_sample_rows` of clorg_scale/probes/sampler.py, number for number.
//
// Mathematics: a row with more than `fanout` entries keeps entry j with probability p_j = min(1, c w_j), c such that sum_j p_j = fanout, by systematic sampling (Madow 1949): one
// uniform u a row, entry j is kept when u, u + 1, u + 2, ... falls between the sums of p before and after it. A kept
// entry's value w_j / p_j keeps sums over neighbors unbiased (Horvitz and Thompson 1952). u is a hash of (seed, node):
// samples do not depend on launch or device.
//
// inclusion_scale finds c of each row, once a graph: c = (fanout - capped) / (sum of the others) until no further entry
// reaches probability 1 (infinite where the row is taken whole), two or three sweeps over a row in cache.
// sample_rows writes the sample of each target.
//
// Bytes: 8 an entry of the sampled rows (int32), 12 a sampled one written: 10^5 targets x 25 entries 20 MB + 18 MB, 10 us
// at 4 TB/s. FLOPs: 3 an entry, float64. Launch: one thread a row, blocks of 128, grid-stride; rows are short and of
// like lengths. Offsets are 64 bits wide; INDEX is the type of node ids and of indptr.

#ifndef INDEX
#define INDEX int
#endif

#define INFINITE (1.0 / 0.0)
#define LARGEST 1.7976931348623157e308

__device__ unsigned long long hash_bits(unsigned long long x) {  // SplitMix64's finalizer
  x = (x ^ (x >> 30)) * 0xBF58476D1CE4E5B9ULL;
  x = (x ^ (x >> 27)) * 0x94D049BB133111EBULL;
  return x ^ (x >> 31);
}

extern "C" __global__ void inclusion_scale(const INDEX* indptr, const float* weights, long long n, int fanout,
                                           double* scale, int* sizes) {
  long long step = (long long)gridDim.x * blockDim.x;
  for (long long i = (long long)blockIdx.x * blockDim.x + threadIdx.x; i < n; i += step) {
    long long begin = indptr[i], end = indptr[i + 1];
    scale[i] = INFINITE;
    sizes[i] = (int)(end - begin);
    if (end - begin <= fanout) continue;
    int positive = 0;
    for (long long e = begin; e < end; ++e) positive += weights[e] > 0.0f;
    sizes[i] = positive < fanout ? positive : fanout;
    scale[i] = LARGEST;  // entries of weight 0 are never sampled
    if (positive <= fanout) continue;
    double c = 0.0;
    for (int known = -1;;) {
      int capped = 0;
      double others = 0.0;
      for (long long e = begin; e < end; ++e) {
        if (c * (double)weights[e] >= 1.0) ++capped;
        else others += (double)weights[e];
      }
      if (capped == known || capped >= fanout) break;
      c = (fanout - capped) / others;
      known = capped;
    }
    scale[i] = c;
  }
}

// starts (targets + 1,): running sum of the targets' sizes; nodes, values: its last entry long.
extern "C" __global__ void sample_rows(const INDEX* indptr, const INDEX* indices, const float* weights, const double* scale,
                                       const long long* targets, long long n_targets, unsigned long long seed,
                                       const int* starts, INDEX* nodes, float* values) {
  long long step = (long long)gridDim.x * blockDim.x;
  for (long long r = (long long)blockIdx.x * blockDim.x + threadIdx.x; r < n_targets; r += step) {
    long long node = targets[r], skipped = -1;
    int out = starts[r], end = starts[r + 1];
    double c = scale[node], reached = 0.0;
    unsigned long long bits = hash_bits(seed + 0x9E3779B97F4A7C15ULL * (unsigned long long)(node + 1));
    double mark = ((double)(bits >> 11) + 0.5) * 0x1p-53 * (1 - 1e-9);
    for (long long e = indptr[node]; e < (long long)indptr[node + 1] && out < end; ++e) {
      double w = weights[e];
      double p = c == INFINITE ? 1.0 : fmin(1.0, c * w);
      reached += p;
      if (reached > mark) {
        mark += 1.0;
        nodes[out] = indices[e];
        values[out] = (float)(w / p);
        ++out;
      } else if (p > 0.0) {
        skipped = e;
      }
    }
    if (out < end) {  // two marks fell, by rounding, within one entry at the very end
      double w = weights[skipped];
      nodes[out] = indices[skipped];
      values[out] = (float)(w / fmin(1.0, c * w));
    }
  }
}
