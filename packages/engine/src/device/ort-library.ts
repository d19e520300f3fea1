import { createRequire } from "node:module";
import { dirname, join } from "node:path";
import "../runtime/no-telemetry.ts";
import { InvalidError, messageOf } from "@drydock/kit";
import koffi, { type TypeObject } from "koffi";

/** A pointer that the library gave. Never looked into here. */
export type Handle = bigint;

/** Version of the C API that the positions below are of; later libraries give it too (`OrtApiBase::GetApi`). */
const apiVersion = 24;
const pointerBytes = 8;

/**
 * The functions used here, by their position in `OrtApi`, a structure of function pointers that only ever grows at its end.
 * Source: onnxruntime_c_api.h, API version 24.
 */
const functions = {
  GetErrorMessage: [2, "const char *GetErrorMessage(void *status)"],
  CreateEnv: [3, "void *CreateEnv(int level, const char *id, _Out_ void **env)"],
  CreateSessionFromArray: [
    8,
    "void *CreateSessionFromArray(void *env, const void *model, size_t bytes, void *options, _Out_ void **session)",
  ],
  CreateSessionOptions: [10, "void *CreateSessionOptions(_Out_ void **options)"],
  DisableMemPattern: [17, "void *DisableMemPattern(void *options)"],
  SetSessionLogSeverityLevel: [22, "void *SetSessionLogSeverityLevel(void *options, int level)"],
  SetSessionGraphOptimizationLevel: [23, "void *SetSessionGraphOptimizationLevel(void *options, int level)"],
  SetIntraOpNumThreads: [24, "void *SetIntraOpNumThreads(void *options, int threads)"],
  SetInterOpNumThreads: [25, "void *SetInterOpNumThreads(void *options, int threads)"],
  CreateTensorAsOrtValue: [
    48,
    "void *CreateTensorAsOrtValue(void *allocator, const int64_t *shape, size_t rank, int type, _Out_ void **value)",
  ],
  CreateTensorWithDataAsOrtValue: [
    49,
    "void *CreateTensorWithDataAsOrtValue(void *info, void *data, size_t bytes, const int64_t *shape, size_t rank, int type, _Out_ void **value)",
  ],
  GetTensorMutableData: [51, "void *GetTensorMutableData(void *value, _Out_ void **data)"],
  GetTensorElementType: [60, "void *GetTensorElementType(void *info, _Out_ int *type)"],
  GetDimensionsCount: [61, "void *GetDimensionsCount(void *info, _Out_ size_t *count)"],
  GetDimensions: [62, "void *GetDimensions(void *info, _Out_ int64_t *sizes, size_t count)"],
  GetTensorTypeAndShape: [65, "void *GetTensorTypeAndShape(void *value, _Out_ void **info)"],
  CreateMemoryInfo: [
    68,
    "void *CreateMemoryInfo(const char *name, int allocator, int device, int kind, _Out_ void **info)",
  ],
  AllocatorFree: [76, "void *AllocatorFree(void *allocator, void *memory)"],
  GetAllocatorWithDefaultOptions: [78, "void *GetAllocatorWithDefaultOptions(_Out_ void **allocator)"],
  ReleaseStatus: [93, "void ReleaseStatus(void *status)"],
  ReleaseSession: [95, "void ReleaseSession(void *session)"],
  ReleaseValue: [96, "void ReleaseValue(void *value)"],
  ReleaseTensorTypeAndShapeInfo: [99, "void ReleaseTensorTypeAndShapeInfo(void *info)"],
  ReleaseSessionOptions: [100, "void ReleaseSessionOptions(void *options)"],
  GetAvailableProviders: [125, "void *GetAvailableProviders(_Out_ void **names, _Out_ int *count)"],
  ReleaseAvailableProviders: [126, "void *ReleaseAvailableProviders(void *names, int count)"],
  AddSessionConfigEntry: [130, "void *AddSessionConfigEntry(void *options, const char *key, const char *value)"],
  CreateAllocator: [131, "void *CreateAllocator(void *session, void *info, _Out_ void **allocator)"],
  ReleaseAllocator: [132, "void ReleaseAllocator(void *allocator)"],
  RunWithBinding: [133, "void *RunWithBinding(void *session, void *options, void *binding)"],
  CreateIoBinding: [134, "void *CreateIoBinding(void *session, _Out_ void **binding)"],
  ReleaseIoBinding: [135, "void ReleaseIoBinding(void *binding)"],
  BindInput: [136, "void *BindInput(void *binding, const char *name, void *value)"],
  BindOutput: [137, "void *BindOutput(void *binding, const char *name, void *value)"],
  BindOutputToDevice: [138, "void *BindOutputToDevice(void *binding, const char *name, void *info)"],
  GetBoundOutputValues: [
    140,
    "void *GetBoundOutputValues(void *binding, void *allocator, _Out_ void **values, _Out_ size_t *count)",
  ],
  SynchronizeBoundInputs: [202, "void *SynchronizeBoundInputs(void *binding)"],
  SynchronizeBoundOutputs: [203, "void *SynchronizeBoundOutputs(void *binding)"],
  AppendCuda: [204, "void *AppendCuda(void *options, void *cuda)"],
  CreateCudaOptions: [205, "void *CreateCudaOptions(_Out_ void **cuda)"],
  UpdateCudaOptions: [206, "void *UpdateCudaOptions(void *cuda, const char **keys, const char **values, size_t count)"],
  ReleaseCudaOptions: [208, "void ReleaseCudaOptions(void *cuda)"],
} as const satisfies Readonly<Record<string, readonly [number, string]>>;

export type OrtFunction = keyof typeof functions;

/** ONNX's numbers of element types (`ONNXTensorElementDataType`). */
export const elementTypes = { float32: 1, uint8: 2, int64: 7, float16: 10, bfloat16: 16 } as const;
export type ElementType = keyof typeof elementTypes;

/** ONNX Runtime refused a call. */
export class OrtError extends Error {
  constructor(call: string, text: string) {
    super(`ONNX Runtime's ${call} failed: ${text}`);
    this.name = "OrtError";
  }
}

/** Where the npm package keeps the library that its own JavaScript binding loads: both then share one library. */
export function installedOrt(): string {
  const main = createRequire(import.meta.url).resolve("onnxruntime-node");
  return join(dirname(main), "..", "bin/napi-v6", process.platform, process.arch, "libonnxruntime.so.1");
}

/**
 * The C API of ONNX Runtime by FFI. The JavaScript binding copies every input and output through host memory; this reaches I/O
 * binding, with which arrays stay on the device.
 */
export class OrtLibrary {
  readonly #api: Handle;
  readonly #known = new Map<OrtFunction, { readonly pointer: Handle; readonly type: TypeObject }>();

  /** @throws InvalidError (`no_onnxruntime`) when the library cannot be loaded or is too old */
  constructor(path: string = installedOrt()) {
    let api: Handle | null;
    try {
      const base = koffi.load(path).func("void *OrtGetApiBase()")() as Handle;
      api = koffi.call(
        koffi.decode(base, 0, "void *"),
        koffi.proto("void *(uint32_t version)"),
        apiVersion,
      ) as Handle | null;
    } catch (error) {
      throw new InvalidError("no_onnxruntime", `${path} cannot be loaded: ${messageOf(error)}`, { cause: error });
    }
    if (api === null)
      throw new InvalidError(
        "no_onnxruntime",
        `${path} does not have version ${apiVersion} of its C API: it is too old`,
      );
    this.#api = api;
  }

  /** @throws OrtError with the library's own words */
  call(name: OrtFunction, ...values: readonly unknown[]): void {
    const status = this.#raw(name, values) as Handle | null;
    if (status === null || name.startsWith("Release")) return;
    const text = String(this.#raw("GetErrorMessage", [status]));
    this.#raw("ReleaseStatus", [status]);
    throw new OrtError(name, text);
  }

  /** What a call writes to its last parameter. */
  given(name: OrtFunction, ...values: readonly unknown[]): Handle {
    const box: unknown[] = [null];
    this.call(name, ...values, box);
    return BigInt(box[0] as number | bigint);
  }

  /** The execution providers that the library was built with. */
  providers(): string[] {
    const [names, count]: [unknown[], unknown[]] = [[null], [0]];
    this.call("GetAvailableProviders", names, count);
    const list = koffi.decode(names[0] as Handle, "const char *", count[0] as number) as string[];
    this.call("ReleaseAvailableProviders", names[0], count[0]);
    return [...list];
  }

  #raw(name: OrtFunction, values: readonly unknown[]): unknown {
    let known = this.#known.get(name);
    if (!known) {
      const [position, signature] = functions[name];
      const pointer = koffi.decode(this.#api, position * pointerBytes, "void *") as Handle;
      // A prototype has a name of its own in its process, and each thread that loads this module declares it once.
      known = { pointer, type: koffi.proto(signature.replace(`${name}(`, "(")) };
      this.#known.set(name, known);
    }
    return koffi.call(known.pointer, known.type, ...values);
  }
}
