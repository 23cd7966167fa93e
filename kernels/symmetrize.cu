// A k-NN table becomes a symmetric graph in CSR form, without a sort of all edges.
//
// Mathematics: row i of the table lists k neighbors j with weights w_ij (0 where i does not list j);
//   max    a_ij = max(w_ij, w_ji)        mean   a_ij = (w_ij + w_ji) / 2        mutual   a_ij = min(w_ij, w_ji)
// Reference: SciPy's W.maximum(W.T), (W + W.T) / 2, W.minimum(W.T), with sorted indices.
// An edge that both ends list is written by each of them into its own row; one that a single end lists is written by
// that end into both rows. So all that is needed is whether j lists i: a binary search in row j.
//
// Three launches over the table, rows sorted by neighbor (a sort within rows): count_edges gives degrees (their
// running sum is indptr), fill_edges writes entries at atomic cursors, sort_rows puts each row in order by heap
// sort; rows are then the same whatever the order of the writes.
//
// Bytes, n k entries, B of an index: count 2 n k B + n k log2(k) random 32-byte sectors (k = 15: 4 of them, mostly in
// L2: 1.28M x 15 x 4 B = 77 MB); fill the same and (B + 4) an entry written; sort_rows reads and writes each row from
// cache. FLOPs: none to speak of. 1.28M x 15: about 2.5 GB of sectors, under 2 ms at 4 TB/s if they all missed.
// Launch: one thread an entry (count, fill) or a row (sort), blocks of 256, grid-stride. Every offset is 64 bits wide;
// INDEX is the type of node ids and of indptr. A row of a hub is sorted by one thread: 10^4 entries take about 10 ms.

#ifndef INDEX
#define INDEX int
#endif

enum Rule { MAX = 0, MEAN = 1, MUTUAL = 2 };

// Position of `wanted` in the ascending row, or -1.
__device__ long long find(const INDEX* row, int k, INDEX wanted) {
  int low = 0, high = k;
  while (low < high) {
    int middle = (low + high) / 2;
    if (row[middle] < wanted) low = middle + 1;
    else high = middle;
  }
  return low < k && row[low] == wanted ? low : -1;
}

// neighbors (n, k) ascending within rows, negative where absent; degree (n,) zero before.
extern "C" __global__ void count_edges(const INDEX* neighbors, long long n, int k, int rule, int* degree) {
  long long step = (long long)gridDim.x * blockDim.x;
  for (long long e = (long long)blockIdx.x * blockDim.x + threadIdx.x; e < n * k; e += step) {
    long long i = e / k, j = neighbors[e];
    if (j < 0 || j == i) continue;
    bool both = find(neighbors + j * k, k, (INDEX)i) >= 0;
    if (both || rule != MUTUAL) atomicAdd(degree + i, 1);
    if (!both && rule != MUTUAL) atomicAdd(degree + j, 1);
  }
}

// weights (n, k) beside `neighbors`; indptr (n + 1,) from the degrees; cursor (n,) zero before.
extern "C" __global__ void fill_edges(const INDEX* neighbors, const float* weights, long long n, int k, int rule,
                                      const INDEX* indptr, int* cursor, INDEX* columns, float* values) {
  long long step = (long long)gridDim.x * blockDim.x;
  for (long long e = (long long)blockIdx.x * blockDim.x + threadIdx.x; e < n * k; e += step) {
    long long i = e / k, j = neighbors[e];
    if (j < 0 || j == i) continue;
    long long back = find(neighbors + j * k, k, (INDEX)i);
    if (back < 0 && rule == MUTUAL) continue;
    float here = weights[e], there = back < 0 ? 0.0f : weights[j * k + back];
    float value = rule == MEAN ? 0.5f * (here + there) : rule == MAX ? fmaxf(here, there) : fminf(here, there);
    long long slot = (long long)indptr[i] + atomicAdd(cursor + i, 1);
    columns[slot] = (INDEX)j;
    values[slot] = value;
    if (back < 0) {
      slot = (long long)indptr[j] + atomicAdd(cursor + j, 1);
      columns[slot] = (INDEX)i;
      values[slot] = value;
    }
  }
}

// Let the entry at `root` sink to its place in a heap of `size` entries.
__device__ void sink(INDEX* columns, float* values, long long root, long long size) {
  INDEX column = columns[root];
  float value = values[root];
  for (long long child = 2 * root + 1; child < size; child = 2 * root + 1) {
    if (child + 1 < size && columns[child + 1] > columns[child]) ++child;
    if (columns[child] <= column) break;
    columns[root] = columns[child];
    values[root] = values[child];
    root = child;
  }
  columns[root] = column;
  values[root] = value;
}

extern "C" __global__ void sort_rows(const INDEX* indptr, long long n, INDEX* columns, float* values) {
  long long step = (long long)gridDim.x * blockDim.x;
  for (long long i = (long long)blockIdx.x * blockDim.x + threadIdx.x; i < n; i += step) {
    INDEX* row = columns + indptr[i];
    float* beside = values + indptr[i];
    long long size = (long long)indptr[i + 1] - indptr[i];
    for (long long root = size / 2 - 1; root >= 0; --root) sink(row, beside, root, size);
    for (long long last = size - 1; last > 0; --last) {
      INDEX column = row[0];
      float value = beside[0];
      row[0] = row[last];
      beside[0] = beside[last];
      row[last] = column;
      beside[last] = value;
      sink(row, beside, 0, last);
    }
  }
}
