// Squared distances, or minus the inner products, of given pairs of points, in float64 (k-NN: candidates measured).
//
// Mathematics: keys[i, c] = sum_f (a x_f - b y_f)^2, or -sum_f (a x_f) (b y_f), of x = queries[rows[i]] and
// y = points[ids[i, c]]; infinity where ids[i, c] < 0. a and b are factors, of each point or of all (stride 0).
// Coordinates are converted and multiplied before they are subtracted, and never fused, so equal rows are 0 apart.
// Reference: _gathered_keys of clorg_scale/neighbors/pairs.py in NumPy, which writes (and reads five times) float64
// copies of all gathered points.
//
// Bytes: 4 d a pair (2 d of half precision) and 8 of its key; x stays in L1. 1.28M x 48 pairs of 2048 float32:
// 0.5 TB, about 0.2 s at 2.5 TB/s; copies would take 6 TB. FLOPs: 4 d a pair in float64, 0.5e12, nothing beside that.
// Launch: a warp a pair, whose lanes take every 32nd coordinate, blocks of 256, grid-stride; offsets are 64 bits wide.
// Under the serial shim of the tests a warp has one lane.

#ifndef INDEX
#define INDEX long long
#endif

#ifdef __CUDA_ARCH__
#define LANES 32
__device__ double number(unsigned short bits) {
  float value;
  asm("cvt.f32.f16 %0, %1;" : "=f"(value) : "h"(bits));
  return value;
}
__device__ double product(double x, double y) { return __dmul_rn(x, y); }
__device__ double sum_of_lanes(double value) {
  for (int offset = LANES / 2; offset > 0; offset /= 2) value += __shfl_down_sync(0xffffffffu, value, offset);
  return value;
}
#else
#define LANES 1
__device__ double number(unsigned short bits) {
  union { unsigned short bits; _Float16 value; } both = {bits};
  return both.value;
}
__device__ double product(double x, double y) { return x * y; }
__device__ double sum_of_lanes(double value) { return value; }
#endif
__device__ double number(float value) { return value; }
__device__ double number(double value) { return value; }

template <typename Real>
__device__ void keys_of(const Real* queries, const Real* points, const double* a, long long a_step, const double* b,
                        long long b_step, const long long* rows, const INDEX* ids, long long pairs, int width, int d,
                        int inner, double* keys) {
  long long step = (long long)gridDim.x * blockDim.x / LANES;
  int lane = threadIdx.x % LANES;
  for (long long p = ((long long)blockIdx.x * blockDim.x + threadIdx.x) / LANES; p < pairs; p += step) {
    long long i = rows[p / width], j = ids[p];
    double sum = 0;
    if (j >= 0) {
      const Real *x = queries + i * d, *y = points + j * d;
      double of_x = a[i * a_step], of_y = b[j * b_step];
      for (int f = lane; f < d; f += LANES) {
        double u = product(of_x, number(x[f])), v = product(of_y, number(y[f]));
        sum += inner ? -u * v : (u - v) * (u - v);
      }
    }
    sum = sum_of_lanes(sum);
    if (lane == 0) keys[p] = j >= 0 ? sum : 1e308 * 10;
  }
}

extern "C" __global__ void keys_float16(const unsigned short* queries, const unsigned short* points, const double* a, long long a_step,
                                      const double* b, long long b_step, const long long* rows, const INDEX* ids,
                                      long long pairs, int width, int d, int inner, double* keys) {
  keys_of(queries, points, a, a_step, b, b_step, rows, ids, pairs, width, d, inner, keys);
}

extern "C" __global__ void keys_float32(const float* queries, const float* points, const double* a, long long a_step,
                                      const double* b, long long b_step, const long long* rows, const INDEX* ids,
                                      long long pairs, int width, int d, int inner, double* keys) {
  keys_of(queries, points, a, a_step, b, b_step, rows, ids, pairs, width, d, inner, keys);
}

extern "C" __global__ void keys_float64(const double* queries, const double* points, const double* a, long long a_step,
                                      const double* b, long long b_step, const long long* rows, const INDEX* ids,
                                      long long pairs, int width, int d, int inner, double* keys) {
  keys_of(queries, points, a, a_step, b, b_step, rows, ids, pairs, width, d, inner, keys);
}
