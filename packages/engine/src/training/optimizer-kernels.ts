import { assembleWasm } from "../runtime/wasm-assembler.ts";

/** Elements that a kernel takes at once: four arrays of them stay in a core's second cache. */
export const blockElements = 8192;

const blockBytes = blockElements * Float32Array.BYTES_PER_ELEMENT;

/** Where a kernel's arrays lie in its memory, in elements. */
export const places = {
  values: 0,
  gradient: blockElements,
  firstMoment: 2 * blockElements,
  secondMoment: 3 * blockElements,
} as const;

const at = {
  values: 0,
  gradient: blockBytes,
  firstMoment: 2 * blockBytes,
  secondMoment: 3 * blockBytes,
} as const;

const loop = (body: string): string => `
  loop
    ${body}
    local.get i  i32.const 16  i32.add  local.tee i
    local.get bytes  i32.lt_u  br_if 0
  end`;

const factorNames = ["scale", "beta1", "rest1", "beta2", "rest2", "keep", "rate", "rootScale", "epsilon"] as const;
const splats = [...factorNames, "smallest"]
  .map((name) => `local.get ${name}  f32x4.splat  local.set ${name}_4`)
  .join("\n");

/** What is below the smallest normal number becomes 0: processors take a hundred times as long for such numbers. */
const flushed = (name: string): string =>
  `local.tee ${name}  local.get ${name}  f32x4.abs  local.get smallest_4  f32x4.ge  v128.and  local.tee ${name}`;

const module = assembleWasm(
  {
    // g·=scale; m = m·β₁ + g(1−β₁); v = v·β₂ + g²(1−β₂); w = w·keep − rate·m/(√v·rootScale + ε)
    update: {
      parameters: {
        bytes: "i32",
        ...(Object.fromEntries([...factorNames, "smallest"].map((name) => [name, "f32"])) as Record<string, "f32">),
      },
      locals: {
        i: "i32",
        g: "v128",
        m: "v128",
        v: "v128",
        ...(Object.fromEntries([...factorNames, "smallest"].map((name) => [`${name}_4`, "v128"])) as Record<
          string,
          "v128"
        >),
      },
      body: `
        ${splats}
        ${loop(`
          local.get i  v128.load ${at.gradient}  local.get scale_4  f32x4.mul  local.set g
          local.get i
          local.get i  v128.load ${at.firstMoment}  local.get beta1_4  f32x4.mul
          local.get g  local.get rest1_4  f32x4.mul  f32x4.add  ${flushed("m")}
          v128.store ${at.firstMoment}
          local.get i
          local.get i  v128.load ${at.secondMoment}  local.get beta2_4  f32x4.mul
          local.get g  local.get g  f32x4.mul  local.get rest2_4  f32x4.mul  f32x4.add  ${flushed("v")}
          v128.store ${at.secondMoment}
          local.get i
          local.get i  v128.load ${at.values}  local.get keep_4  f32x4.mul
          local.get m  local.get rate_4  f32x4.mul
          local.get v  f32x4.sqrt  local.get rootScale_4  f32x4.mul  local.get epsilon_4  f32x4.add
          f32x4.div  f32x4.sub
          v128.store ${at.values}`)}`,
    },
    // Σ g², in double precision, four partial sums over the elements 4k, 4k+1, 4k+2, 4k+3
    sumOfSquares: {
      parameters: { bytes: "i32" },
      result: "f64",
      locals: { i: "i32", g: "v128", d: "v128", even: "v128", odd: "v128" },
      body: `
        ${loop(`
          local.get i  v128.load ${at.gradient}  local.tee g
          f64x2.promote_low_f32x4  local.tee d  local.get d  f64x2.mul  local.get even  f64x2.add  local.set even
          local.get g  local.get g  i8x16.shuffle 8 9 10 11 12 13 14 15 0 1 2 3 4 5 6 7
          f64x2.promote_low_f32x4  local.tee d  local.get d  f64x2.mul  local.get odd  f64x2.add  local.set odd`)}
        local.get even  local.get odd  f64x2.add  local.tee d  f64x2.extract_lane 0
        local.get d  f64x2.extract_lane 1  f64.add`,
    },
  },
  (4 * blockBytes) / 65536,
);

/** The part of JavaScript's WebAssembly interface that is used here; TypeScript has it in its browser library only. */
declare const WebAssembly: {
  readonly Module: new (bytes: Uint8Array<ArrayBuffer>) => object;
  readonly Instance: new (module: object) => { readonly exports: unknown };
};

interface Exports {
  readonly memory: { readonly buffer: ArrayBuffer };
  readonly update: (bytes: number, ...factors: number[]) => void;
  readonly sumOfSquares: (bytes: number) => number;
}

/** Factors of one update of one tensor: see `ThreadedAdamW.step`. */
export type UpdateFactors = Readonly<Record<(typeof factorNames)[number], number>>;

/** Loops over blocks of at most `blockElements` numbers, written and read at their `places` of `memory`. */
export class OptimizerKernels {
  readonly memory: Float32Array;
  readonly #exports: Exports;

  constructor() {
    this.#exports = new WebAssembly.Instance(new WebAssembly.Module(module)).exports as Exports;
    this.memory = new Float32Array(this.#exports.memory.buffer);
  }

  /** AdamW on the first `count` numbers of the four arrays, in single precision. */
  update(count: number, factors: UpdateFactors): void {
    this.#exports.update(bytesOf(count), ...factorNames.map((name) => factors[name]), smallestNormal);
  }

  /** Sum of the squares of the first `count` gradients. */
  sumOfSquares(count: number): number {
    const { gradient } = places;
    this.memory.fill(0, gradient + count, gradient + bytesOf(count) / Float32Array.BYTES_PER_ELEMENT);
    return this.#exports.sumOfSquares(bytesOf(count));
  }
}

const smallestNormal = 2 ** -126;

/** Kernels take four numbers at a time: what lies beyond `count` is never read back. */
function bytesOf(count: number): number {
  return Math.ceil(count / 4) * 4 * Float32Array.BYTES_PER_ELEMENT;
}
