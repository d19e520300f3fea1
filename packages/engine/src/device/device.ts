import { ThreadClient } from "../runtime/thread-client.ts";
import type { DeviceAnswer, DeviceRequest, DeviceSettings, HostTensor } from "./device-messages.ts";

export type { DeviceSettings, HostTensor } from "./device-messages.ts";

/** One device with its arrays and sessions, which live on a thread of their own. */
export class Device {
  readonly settings: DeviceSettings;
  readonly #thread = new ThreadClient<DeviceRequest, DeviceAnswer>(new URL("device-thread.ts", import.meta.url));
  #sessions = 0;

  private constructor(settings: DeviceSettings) {
    this.settings = settings;
  }

  /** @throws Error when ONNX Runtime cannot use the device: says what has to be installed */
  static async start(settings: DeviceSettings): Promise<Device> {
    const device = new Device(settings);
    await device.#thread.ask({ kind: "start", settings });
    return device;
  }

  /** @returns the number of the session */
  async open(model: Uint8Array): Promise<number> {
    const session = ++this.#sessions;
    await this.#thread.ask({ kind: "open", model, session });
    return session;
  }

  /** Copies an array to the device, under its name. */
  async put(tensor: HostTensor): Promise<void> {
    await this.#thread.ask({ kind: "put", tensor });
  }

  /** Copies an array of the device into an array of the host in shared memory. */
  async get(name: string, into: Float32Array, shape: readonly number[]): Promise<void> {
    await this.#thread.ask({ kind: "get", name, into: { name, data: into, shape, type: "float32" } });
  }

  async drop(names: readonly string[]): Promise<void> {
    await this.#thread.ask({ kind: "drop", names });
  }

  async run(request: Omit<Extract<DeviceRequest, { kind: "run" }>, "kind">): Promise<Record<string, Float32Array>> {
    const answer = await this.#thread.ask({ kind: "run", ...request });
    return answer.kind === "ran" ? { ...answer.outputs } : {};
  }

  /** What is held on the device. */
  async count(): Promise<{ tensors: number; bytes: number }> {
    const answer = await this.#thread.ask({ kind: "count" });
    return answer.kind === "counted" ? answer : { tensors: 0, bytes: 0 };
  }

  async closeSession(session: number): Promise<void> {
    await this.#thread.ask({ kind: "close", session });
  }

  /** Ends the thread; the device's memory goes with it. */
  async close(): Promise<void> {
    await this.#thread.close();
  }
}
