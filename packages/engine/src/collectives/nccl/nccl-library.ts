import { InvalidError, messageOf } from "@drydock/kit";
import type { NumberArray } from "../collective.ts";
import koffi, { type LibraryHandle } from "koffi";

/** An address of the device, or a handle that a library gave. Never looked into here. */
export type Handle = bigint;

/** Length of NCCL's unique id in bytes. */
export const uniqueIdBytes = 128;

/** NCCL's names of element types (`ncclDataType_t`). */
export const elementTypes = { float32: 7, float64: 8 } as const;
export type ElementType = keyof typeof elementTypes;

/** `ncclSum` */
const sum = 0;
const copyToDevice = 1;
const copyFromDevice = 2;
/** Work of other streams, such as the engine's, is not waited for. */
const nonBlockingStream = 1;
const cudaNotReady = 600;
const ncclInProgress = 7;

export interface NcclPaths {
  readonly nccl: string;
  readonly cudaRuntime: string;
}

/** Names that the loader of Linux finds where NVIDIA's packages or images installed the libraries. */
export const installedNccl: NcclPaths = { nccl: "libnccl.so.2", cudaRuntime: "libcudart.so.12" };

type Call = (...values: readonly unknown[]) => unknown;

/** A call of NVIDIA's libraries was refused. */
export class NcclError extends Error {
  constructor(call: string, text: string) {
    super(`${call} failed: ${text}`);
    this.name = "NcclError";
  }
}

/**
 * The functions of NCCL and of the CUDA runtime that sums over ranks need, called by FFI. Each throws `NcclError` when the
 * library refuses. Signatures: nccl.h of NCCL 2, cuda_runtime_api.h of CUDA 12.
 */
export class NcclLibrary {
  readonly #nccl: (name: string, ...values: readonly unknown[]) => void;
  readonly #cuda: (name: string, ...values: readonly unknown[]) => void;
  readonly #queryStream: Call;

  /** @throws InvalidError when a library cannot be loaded or lacks a function */
  constructor(paths: NcclPaths = installedNccl) {
    const nccl = open(paths.nccl);
    const cuda = open(paths.cudaRuntime);
    const ncclText = declare(nccl, "const char *ncclGetErrorString(int error)");
    const cudaText = declare(cuda, "const char *cudaGetErrorString(int error)");
    const calls = new Map<string, Call>([
      ["cudaSetDevice", declare(cuda, "int cudaSetDevice(int device)")],
      ["cudaMalloc", declare(cuda, "int cudaMalloc(_Out_ uint64_t *pointer, size_t bytes)")],
      ["cudaFree", declare(cuda, "int cudaFree(uint64_t pointer)")],
      [
        "cudaStreamCreateWithFlags",
        declare(cuda, "int cudaStreamCreateWithFlags(_Out_ uint64_t *stream, unsigned int flags)"),
      ],
      ["cudaStreamDestroy", declare(cuda, "int cudaStreamDestroy(uint64_t stream)")],
      [
        "copyIn",
        declare(cuda, "int cudaMemcpyAsync(uint64_t to, const void *from, size_t bytes, int kind, uint64_t stream)"),
      ],
      [
        "copyOut",
        declare(cuda, "int cudaMemcpyAsync(void *to, uint64_t from, size_t bytes, int kind, uint64_t stream)"),
      ],
      ["ncclGetUniqueId", declare(nccl, "int ncclGetUniqueId(void *id)")],
      ["ncclCommInitRank", declareInitRank(nccl)],
      ["ncclCommGetAsyncError", declare(nccl, "int ncclCommGetAsyncError(uint64_t comm, _Out_ int *error)")],
      ["ncclCommAbort", declare(nccl, "int ncclCommAbort(uint64_t comm)")],
      ["ncclCommDestroy", declare(nccl, "int ncclCommDestroy(uint64_t comm)")],
      ...["ncclAllReduce", "ncclReduceScatter"].map(
        (name) =>
          [
            name,
            declare(
              nccl,
              `int ${name}(uint64_t from, uint64_t to, size_t count, int type, int operation, uint64_t comm, uint64_t stream)`,
            ),
          ] as const,
      ),
      [
        "ncclAllGather",
        declare(
          nccl,
          "int ncclAllGather(uint64_t from, uint64_t to, size_t count, int type, uint64_t comm, uint64_t stream)",
        ),
      ],
      [
        "ncclBroadcast",
        declare(
          nccl,
          "int ncclBroadcast(uint64_t from, uint64_t to, size_t count, int type, int root, uint64_t comm, uint64_t stream)",
        ),
      ],
    ]);
    this.#queryStream = declare(cuda, "int cudaStreamQuery(uint64_t stream)");
    const checked =
      (textOf: Call) =>
      (name: string, ...values: readonly unknown[]): void => {
        const status = calls.get(name)?.(...values);
        if (status !== 0 && status !== ncclInProgress) throw new NcclError(name, String(textOf(status)));
      };
    this.#nccl = checked(ncclText);
    this.#cuda = checked(cudaText);
    this.errorText = (error) => String(ncclText(error));
  }

  /** NCCL's words for an error's number. */
  readonly errorText: (error: number) => string;

  /** The device that later calls of this thread are about. */
  setDevice(device: number): void {
    this.#cuda("cudaSetDevice", device);
  }

  allocate(bytes: number): Handle {
    return given((box) => this.#cuda("cudaMalloc", box, bytes));
  }

  free(memory: Handle): void {
    this.#cuda("cudaFree", memory);
  }

  createStream(): Handle {
    return given((box) => this.#cuda("cudaStreamCreateWithFlags", box, nonBlockingStream));
  }

  destroyStream(stream: Handle): void {
    this.#cuda("cudaStreamDestroy", stream);
  }

  /** Whether everything that was put into the stream is done. */
  isStreamDone(stream: Handle): boolean {
    const status = this.#queryStream(stream);
    if (status !== 0 && status !== cudaNotReady) throw new NcclError("cudaStreamQuery", `CUDA error ${String(status)}`);
    return status === 0;
  }

  /** Puts a copy of an array of this process into the stream; the array must stay as it is until the stream is done. */
  copyIn(to: Handle, from: NumberArray, stream: Handle): void {
    this.#cuda("copyIn", to, from, from.byteLength, copyToDevice, stream);
  }

  copyOut(to: NumberArray, from: Handle, stream: Handle): void {
    this.#cuda("copyOut", to, from, to.byteLength, copyFromDevice, stream);
  }

  /** What rank 0 makes and all ranks need to find each other. */
  uniqueId(): Uint8Array {
    const id = new Uint8Array(uniqueIdBytes);
    this.#nccl("ncclGetUniqueId", id);
    return id;
  }

  /** Joins the communicator of an id; waits for all ranks. */
  initRank(id: Uint8Array, rank: number, worldSize: number): Handle {
    return given((box) => this.#nccl("ncclCommInitRank", box, worldSize, { internal: id }, rank));
  }

  /** Number of an error that happened while operations were under way; 0 when there was none. */
  asyncError(communicator: Handle): number {
    const error = given((box) => this.#nccl("ncclCommGetAsyncError", communicator, box));
    return error === BigInt(ncclInProgress) ? 0 : Number(error);
  }

  /** Ends operations that wait for a rank that is gone. */
  abort(communicator: Handle): void {
    this.#nccl("ncclCommAbort", communicator);
  }

  destroy(communicator: Handle): void {
    this.#nccl("ncclCommDestroy", communicator);
  }

  /** Sums `count` elements in place. */
  allReduce(memory: Handle, count: number, type: ElementType, communicator: Handle, stream: Handle): void {
    this.#nccl("ncclAllReduce", memory, memory, count, elementTypes[type], sum, communicator, stream);
  }

  /** Sums in place; this rank gets its share of `count` elements, which lies at `own`. */
  reduceScatter(
    memory: Handle,
    own: Handle,
    count: number,
    type: ElementType,
    communicator: Handle,
    stream: Handle,
  ): void {
    this.#nccl("ncclReduceScatter", memory, own, count, elementTypes[type], sum, communicator, stream);
  }

  /** Gathers shares of `count` elements in place; this rank's lies at `own`. */
  allGather(own: Handle, memory: Handle, count: number, type: ElementType, communicator: Handle, stream: Handle): void {
    this.#nccl("ncclAllGather", own, memory, count, elementTypes[type], communicator, stream);
  }

  broadcast(
    memory: Handle,
    count: number,
    type: ElementType,
    root: number,
    communicator: Handle,
    stream: Handle,
  ): void {
    this.#nccl("ncclBroadcast", memory, memory, count, elementTypes[type], root, communicator, stream);
  }
}

function open(path: string): LibraryHandle {
  try {
    return koffi.load(path);
  } catch (error) {
    throw new InvalidError(
      "no_nccl",
      `${path} cannot be loaded (${messageOf(error)}): install NVIDIA's NCCL and CUDA runtime in the worker's image, or sum over TCP with DRYDOCK_COLLECTIVE=tcp`,
      { cause: error },
    );
  }
}

function declare(library: LibraryHandle, signature: string): Call {
  try {
    return library.func(signature);
  } catch (error) {
    throw new InvalidError("old_nccl", `the library lacks "${signature}": ${messageOf(error)}`, { cause: error });
  }
}

/** The id goes by value: a struct of 128 bytes. */
function declareInitRank(library: LibraryHandle): Call {
  const uniqueId = koffi.struct({ internal: koffi.array("uint8_t", uniqueIdBytes, "Typed") });
  return library.func("ncclCommInitRank", "int", [koffi.out(koffi.pointer("uint64_t")), "int", uniqueId, "int"]);
}

/** What a function writes where it is told to. */
function given(call: (box: unknown[]) => void): bigint {
  const box: unknown[] = [null];
  call(box);
  return BigInt(box[0] as number | bigint);
}
