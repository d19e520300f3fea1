import { InvalidError } from "@drydock/kit";
import type { DeviceSettings } from "@drydock/engine";

const matrixTypes = ["float32", "bfloat16", "float16"] as const;

/**
 * Where this worker computes: `DRYDOCK_DEVICE` is `cpu` (the default), `cuda` or `cuda:N`; `DRYDOCK_MATRICES` is what matrix products
 * compute in on a GPU: `bfloat16` (the default), `float16` or `float32`. Null = on the CPU, with arrays of the host.
 *
 * @throws InvalidError naming the variable and what it may be
 */
export function deviceFrom(
  variables: Readonly<Record<string, string | undefined>>,
  threads: number,
): DeviceSettings | null {
  const device = variables["DRYDOCK_DEVICE"] ?? "cpu";
  if (device === "cpu") return null;
  const [, index = "0"] = /^cuda(?::(\d+))?$/.exec(device) ?? [];
  if (!/^cuda(:\d+)?$/.test(device))
    throw new InvalidError("bad_device", `DRYDOCK_DEVICE "${device}" is not cpu, cuda or cuda:N`);
  const matrices = matrixTypes.find((type) => type === (variables["DRYDOCK_MATRICES"] ?? "bfloat16"));
  if (!matrices)
    throw new InvalidError(
      "bad_device",
      `DRYDOCK_MATRICES "${variables["DRYDOCK_MATRICES"]}" is not one of ${matrixTypes.join(", ")}`,
    );
  return { kind: "cuda", index: Number(index), threads, matrices };
}
