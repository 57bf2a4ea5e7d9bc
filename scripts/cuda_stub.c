/* A CUDA driver that computes nothing, for check_cuda_kernels.sh: memory is the machine's, copies are real, and a launch returns at once.
 * CUDA_STUB_CAPABILITY is the compute capability that it claims, as 90; modules are written to the folder CUDA_STUB_MODULES. */

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

typedef unsigned long long address;
typedef struct {
    size_t src_x, src_y;
    int src_type;
    const char *src_host;
    address src_device;
    void *src_array;
    size_t src_pitch, dst_x, dst_y;
    int dst_type;
    char *dst_host;
    address dst_device;
    void *dst_array;
    size_t dst_pitch, width, height;
} copy_2d;

enum { OK = 0, OUT_OF_MEMORY = 2, HOST = 1 };
static const size_t MEMORY = (size_t)16 << 30;

#define NOTHING(name) int name(void) { return OK; }
#define HANDLE(name) int name(void **handle) { *handle = malloc(1); return *handle ? OK : OUT_OF_MEMORY; }

NOTHING(cuInit)
int cuDriverGetVersion(int *version) { *version = 13000; return OK; }
int cuGetErrorName(int error, const char **name) { (void)error; *name = "stub"; return OK; }
int cuGetErrorString(int error, const char **text) { (void)error; *text = "stub"; return OK; }

int cuDeviceGetCount(int *count) { *count = 1; return OK; }
int cuDeviceGet(int *device, int index) { *device = index; return OK; }
int cuDeviceGetName(char *name, int size) { snprintf(name, size, "stub"); return OK; }
int cuDeviceGetPCIBusId(char *id, int size) { snprintf(id, size, "0000:00:00.0"); return OK; }
int cuDeviceGetLuid(char *luid, unsigned *mask) { memset(luid, 0, 8); *mask = 1; return OK; }
int cuDeviceGetUuid_v2(char *uuid) { memset(uuid, 0, 16); return OK; }
int cuDeviceTotalMem_v2(size_t *bytes) { *bytes = MEMORY; return OK; }

int cuDeviceGetAttribute(int *value, int attribute) {
    const char *claimed = getenv("CUDA_STUB_CAPABILITY");
    int capability = claimed ? atoi(claimed) : 90;
    switch (attribute) {
    case 1: case 2: case 3: *value = 1024; break;             /* threads of a block; its sides */
    case 4: *value = 64; break;
    case 5: *value = 2147483647; break;                       /* sides of a grid */
    case 6: case 7: *value = 65535; break;
    case 8: *value = 48 << 10; break;                         /* shared memory of a block */
    case 97: *value = (capability >= 90 ? 227 : 64) << 10; break; /* the same where asked for */
    case 10: *value = 32; break;                              /* threads of a warp */
    case 16: *value = 100; break;                             /* multiprocessors */
    case 75: *value = capability / 10; break;
    case 76: *value = capability % 10; break;
    default: *value = 1;
    }
    return OK;
}

HANDLE(cuDevicePrimaryCtxRetain)
HANDLE(cuCtxGetCurrent)
NOTHING(cuCtxSetCurrent)
int cuCtxGetStreamPriorityRange(int *least, int *greatest) { *least = *greatest = 0; return OK; }

HANDLE(cuStreamCreate)
HANDLE(cuStreamCreateWithPriority)
NOTHING(cuStreamSynchronize)
NOTHING(cuStreamWaitEvent)
NOTHING(cuStreamQuery)
NOTHING(cuStreamDestroy_v2)
HANDLE(cuEventCreate)
NOTHING(cuEventRecord)
NOTHING(cuEventSynchronize)
NOTHING(cuEventQuery)
NOTHING(cuEventDestroy_v2)
int cuEventElapsedTime(float *milliseconds) { *milliseconds = 1; return OK; }
int cuEventElapsedTime_v2(float *milliseconds) { *milliseconds = 1; return OK; }

int cuMemAlloc_v2(address *to, size_t bytes) {
    void *memory = NULL;
    if (posix_memalign(&memory, 512, bytes ? bytes : 1)) return OUT_OF_MEMORY;
    *to = (address)memory;
    return OK;
}
int cuMemAllocAsync(address *to, size_t bytes) { return cuMemAlloc_v2(to, bytes); }
int cuMemAllocHost_v2(void **to, size_t bytes) { return cuMemAlloc_v2((address *)to, bytes); }
int cuMemFree_v2(address memory) { free((void *)memory); return OK; }
int cuMemFreeAsync(address memory) { return cuMemFree_v2(memory); }
int cuMemFreeHost(void *memory) { free(memory); return OK; }
int cuMemGetInfo_v2(size_t *available, size_t *all) { *available = *all = MEMORY; return OK; }

int cuMemcpyHtoDAsync_v2(address to, const void *from, size_t bytes) { memcpy((void *)to, from, bytes); return OK; }
int cuMemcpyDtoHAsync_v2(void *to, address from, size_t bytes) { memcpy(to, (void *)from, bytes); return OK; }
int cuMemcpyDtoDAsync_v2(address to, address from, size_t bytes) { memcpy((void *)to, (void *)from, bytes); return OK; }
int cuMemcpy2DAsync_v2(const copy_2d *copy) {
    const char *from = copy->src_type == HOST ? copy->src_host : (const char *)copy->src_device;
    char *to = copy->dst_type == HOST ? copy->dst_host : (char *)copy->dst_device;
    for (size_t y = 0; y < copy->height; y++)
        memcpy(to + (copy->dst_y + y) * copy->dst_pitch + copy->dst_x,
               from + (copy->src_y + y) * copy->src_pitch + copy->src_x, copy->width);
    return OK;
}

int cuModuleLoadData(void **module, const char *ptx) {
    static int count = 0;
    const char *folder = getenv("CUDA_STUB_MODULES");
    char path[4096];
    snprintf(path, sizeof path, "%s/%d-%04d.ptx", folder ? folder : ".", (int)getpid(), count++);
    FILE *file = folder ? fopen(path, "w") : NULL;
    if (file) {
        fputs(ptx, file);
        fclose(file);
    }
    *module = malloc(1);
    return *module ? OK : OUT_OF_MEMORY;
}
HANDLE(cuModuleGetFunction)
NOTHING(cuModuleUnload)
NOTHING(cuFuncSetAttribute)
NOTHING(cuLaunchKernel)
NOTHING(cuLaunchKernelEx)
NOTHING(cuTensorMapEncodeTiled)
NOTHING(cuTensorMapEncodeIm2col)
NOTHING(cuTensorMapEncodeIm2colWide)
