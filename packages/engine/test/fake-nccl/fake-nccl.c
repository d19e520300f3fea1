/*
 * Stands in for libnccl.so.2 and libcudart.so where there is no GPU: "device" memory is ordinary memory, a stream is a list
 * of things to do, and a collective operation ends when every rank of its communicator has asked for it. All ranks live in
 * one process and one thread, so a stream gets on only when it is asked how far it is. Wrong arguments are refused as the
 * originals refuse them.
 */
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define MOST_RANKS 8
#define MOST_OPERATIONS 256
enum { cudaSuccess = 0, cudaErrorInvalidValue = 1, cudaErrorNotReady = 600 };
enum { ncclSuccess = 0, ncclInvalidArgument = 4, ncclInvalidUsage = 5, ncclRemoteError = 6 };
enum { ncclFloat32 = 7, ncclFloat64 = 8 };
enum kind { copyIn, copyOut, allReduce, reduceScatter, allGather, broadcast };

typedef struct { char internal[128]; } ncclUniqueId;
typedef struct group group;
typedef struct { group *of; int rank; int asked; int aborted; } communicator;
struct group {
  char id[128];
  int size;
  int joined;
  struct { int ranks; int done; void *buffer[MOST_RANKS]; enum kind kind; size_t count; int type; int root; } operation[MOST_OPERATIONS];
};
typedef struct { enum kind kind; void *to; const void *from; size_t bytes; communicator *comm; int number; } task;
typedef struct { task tasks[MOST_OPERATIONS * 4]; int first; int count; } stream;

static group groups[64];
static int groupCount = 0, uniqueIds = 0, asyncError = 0, deviceBytes = 0, refuseNext = 0;

/* What tests ask for and look at. */
void fakeAsyncError(int error) { asyncError = error; }
void fakeRefuseNext(int error) { refuseNext = error; }
int fakeDeviceBytes(void) { return deviceBytes; }

int cudaSetDevice(int device) { return device >= 0 && device < 8 ? cudaSuccess : 101; }
const char *cudaGetErrorString(int error) { return error == 101 ? "invalid device ordinal" : error == 2 ? "out of memory" : "invalid argument"; }
const char *ncclGetErrorString(int error) { return error == ncclRemoteError ? "remote process exited or there was a network error" : error == ncclInvalidUsage ? "invalid usage" : "invalid argument"; }
int cudaMalloc(uint64_t *pointer, size_t bytes) {
  size_t *memory = malloc(bytes + 16);
  if (!memory) return 2;
  memory[0] = bytes;
  deviceBytes += (int)bytes;
  *pointer = (uint64_t)(uintptr_t)(memory + 2);
  return cudaSuccess;
}
int cudaFree(uint64_t pointer) {
  if (!pointer) return cudaSuccess;
  size_t *memory = (size_t *)(uintptr_t)pointer - 2;
  deviceBytes -= (int)memory[0];
  free(memory);
  return cudaSuccess;
}
int cudaStreamCreateWithFlags(uint64_t *handle, unsigned flags) {
  if (flags != 1) return cudaErrorInvalidValue;
  *handle = (uint64_t)(uintptr_t)calloc(1, sizeof(stream));
  return cudaSuccess;
}
int cudaStreamDestroy(uint64_t handle) { free((void *)(uintptr_t)handle); return cudaSuccess; }

static task *append(uint64_t handle, enum kind kind) {
  stream *queue = (stream *)(uintptr_t)handle;
  if (queue->count == queue->first) queue->first = queue->count = 0;
  task *added = &queue->tasks[queue->count++];
  memset(added, 0, sizeof *added);
  added->kind = kind;
  return added;
}
int cudaMemcpyAsync(void *to, const void *from, size_t bytes, int kind, uint64_t handle) {
  if (kind != 1 && kind != 2) return cudaErrorInvalidValue;
  task *copy = append(handle, kind == 1 ? copyIn : copyOut);
  copy->to = to;
  copy->from = from;
  copy->bytes = bytes;
  return cudaSuccess;
}

int ncclGetUniqueId(ncclUniqueId *id) {
  memset(id, 0, sizeof *id);
  snprintf(id->internal, sizeof id->internal, "fake %d", ++uniqueIds);
  id->internal[127] = (char)0xa5; /* the whole struct must travel, bytes above 127 too */
  return ncclSuccess;
}
int ncclCommInitRank(uint64_t *handle, int size, ncclUniqueId id, int rank) {
  if (rank < 0 || rank >= size || size > MOST_RANKS || strncmp(id.internal, "fake ", 5) || id.internal[127] != (char)0xa5) return ncclInvalidArgument;
  group *of = NULL;
  for (int index = 0; index < groupCount; index++)
    if (!memcmp(groups[index].id, id.internal, 128)) of = &groups[index];
  if (!of) {
    of = &groups[groupCount++];
    memcpy(of->id, id.internal, 128);
    of->size = size;
  }
  if (of->size != size) return ncclInvalidArgument;
  of->joined++;
  communicator *comm = calloc(1, sizeof *comm);
  comm->of = of;
  comm->rank = rank;
  *handle = (uint64_t)(uintptr_t)comm;
  return ncclSuccess;
}
int ncclCommGetAsyncError(uint64_t handle, int *error) { (void)handle; *error = asyncError; return ncclSuccess; }
int ncclCommAbort(uint64_t handle) { ((communicator *)(uintptr_t)handle)->aborted = 1; return ncclSuccess; }
int ncclCommDestroy(uint64_t handle) { free((void *)(uintptr_t)handle); return ncclSuccess; }

static int ask(enum kind kind, void *buffer, size_t count, int type, int root, uint64_t handle, uint64_t streamHandle) {
  if (refuseNext) { int error = refuseNext; refuseNext = 0; return error; }
  communicator *comm = (communicator *)(uintptr_t)handle;
  if (type != ncclFloat32 && type != ncclFloat64) return ncclInvalidArgument;
  if (comm->aborted) return ncclInvalidUsage;
  int number = comm->asked++ % MOST_OPERATIONS;
  if (comm->of->operation[number].done == comm->of->size) memset(&comm->of->operation[number], 0, sizeof comm->of->operation[number]);
  comm->of->operation[number].kind = kind;
  comm->of->operation[number].count = count;
  comm->of->operation[number].type = type;
  comm->of->operation[number].root = root;
  task *added = append(streamHandle, kind);
  added->comm = comm;
  added->number = number;
  added->to = buffer;
  return ncclSuccess;
}
int ncclAllReduce(uint64_t from, uint64_t to, size_t count, int type, int operation, uint64_t comm, uint64_t queue) {
  if (from != to || operation != 0) return ncclInvalidArgument;
  return ask(allReduce, (void *)(uintptr_t)to, count, type, 0, comm, queue);
}
static size_t widthOf(int type) { return type == ncclFloat64 ? 8 : 4; }
int ncclReduceScatter(uint64_t from, uint64_t to, size_t count, int type, int operation, uint64_t comm, uint64_t queue) {
  int rank = ((communicator *)(uintptr_t)comm)->rank;
  if (operation != 0 || to != from + rank * count * widthOf(type)) return ncclInvalidArgument;
  return ask(reduceScatter, (void *)(uintptr_t)from, count, type, 0, comm, queue);
}
int ncclAllGather(uint64_t from, uint64_t to, size_t count, int type, uint64_t comm, uint64_t queue) {
  int rank = ((communicator *)(uintptr_t)comm)->rank;
  if (from != to + rank * count * widthOf(type)) return ncclInvalidArgument;
  return ask(allGather, (void *)(uintptr_t)to, count, type, 0, comm, queue);
}
int ncclBroadcast(uint64_t from, uint64_t to, size_t count, int type, int root, uint64_t comm, uint64_t queue) {
  if (from != to) return ncclInvalidArgument;
  return ask(broadcast, (void *)(uintptr_t)to, count, type, root, comm, queue);
}

/* Does an operation once every rank's stream has come to it. */
static void carryOut(group *of, int number) {
  size_t count = of->operation[number].count, width = widthOf(of->operation[number].type);
  size_t all = of->operation[number].kind == reduceScatter ? count * of->size : count;
  for (int to = 0; to < of->size; to++) {
    char *own = of->operation[number].buffer[to];
    if (of->operation[number].kind == allGather) {
      for (int from = 0; from < of->size; from++)
        memmove(own + from * count * width, (char *)of->operation[number].buffer[from] + from * count * width, count * width);
    } else if (of->operation[number].kind == broadcast) {
      memmove(own, of->operation[number].buffer[of->operation[number].root], count * width);
    }
  }
  if (of->operation[number].kind != allReduce && of->operation[number].kind != reduceScatter) return;
  char *sum = calloc(all ? all : 1, width);
  for (int from = 0; from < of->size; from++)
    for (size_t index = 0; index < all; index++)
      if (width == 8) ((double *)sum)[index] += ((double *)of->operation[number].buffer[from])[index];
      else ((float *)sum)[index] += ((float *)of->operation[number].buffer[from])[index];
  for (int to = 0; to < of->size; to++) memcpy(of->operation[number].buffer[to], sum, all * width);
  free(sum);
}

int cudaStreamQuery(uint64_t handle) {
  stream *queue = (stream *)(uintptr_t)handle;
  while (queue->first < queue->count) {
    task *next = &queue->tasks[queue->first];
    if (next->kind == copyIn || next->kind == copyOut) {
      memcpy(next->to, next->from, next->bytes);
    } else {
      group *of = next->comm->of;
      if (next->comm->aborted) { queue->first = queue->count; return cudaSuccess; }
      if (next->to) {
        of->operation[next->number].buffer[next->comm->rank] = next->to;
        next->to = NULL;
        if (++of->operation[next->number].ranks == of->size) carryOut(of, next->number);
      }
      if (of->operation[next->number].ranks < of->size) return cudaErrorNotReady;
      of->operation[next->number].done++;
    }
    queue->first++;
  }
  return cudaSuccess;
}
