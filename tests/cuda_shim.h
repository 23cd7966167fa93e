// Runs barrier-free CUDA kernels on the CPU, one thread after another: their logic, not their speed.
#include <cmath>
#define __global__
#define __device__ static
struct Place { unsigned x; };
static Place threadIdx, blockIdx, blockDim, gridDim;
template <typename T> static T atomicAdd(T* place, T value) { T old = *place; *place += value; return old; }
template <typename Kernel, typename... Arguments>
static void launch(unsigned blocks, unsigned threads, Kernel kernel, Arguments... arguments) {
  gridDim.x = blocks;
  blockDim.x = threads;
  // Threads in falling order: a result that depends on the order would differ from the oracle's.
  for (blockIdx.x = blocks; blockIdx.x-- > 0;)
    for (threadIdx.x = threads; threadIdx.x-- > 0;) kernel(arguments...);
}
