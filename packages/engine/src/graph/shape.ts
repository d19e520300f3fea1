import { InvalidError } from "@drydock/kit";

export type DType = "float32" | "int64" | "bool" | "uint8";

/** One axis: a fixed size, or a product of symbols such as `B*T` whose value is known when the graph runs. */
export type Dimension = number | string;
export type Shape = readonly Dimension[];

/** Thrown where an op is written with shapes that do not fit. */
export class ShapeError extends InvalidError {
  constructor(message: string) {
    super("shape_mismatch", message);
  }
}

export function shapeText(shape: Shape): string {
  return `[${shape.join(", ")}]`;
}

export function sameShape(a: Shape, b: Shape): boolean {
  return a.length === b.length && a.every((dimension, axis) => dimension === b[axis]);
}

/** Product of dimensions: numbers multiply, symbols join in sorted order, so that equal products are equal strings. */
export function product(dimensions: Shape): Dimension {
  let factor = 1;
  const symbols: string[] = [];
  for (const dimension of dimensions) {
    if (typeof dimension === "number") factor *= dimension;
    else {
      for (const part of dimension.split("*")) {
        const number = Number(part);
        if (Number.isInteger(number)) factor *= number;
        else symbols.push(part);
      }
    }
  }
  if (symbols.length === 0) return factor;
  symbols.sort();
  return (factor === 1 ? symbols : [String(factor), ...symbols]).join("*");
}

/** How an axis is cut into equal pieces: their number and their size, as dimensions. */
export interface ChunkDimensions {
  readonly count: Dimension;
  readonly size: Dimension;
  /** By how much they are longer together than the axis. */
  readonly rest: Dimension;
}

/**
 * Pieces of an axis, as few as keep an array of `unit` elements an entry of the axis within `bound` elements, and as short
 * as that number of them allows. At least one entry a piece. The sizes are known when the graph runs.
 */
export function chunkDimensions(axis: Dimension, unit: Dimension, bound: number): ChunkDimensions {
  const text = [axis, unit, bound].map((part) => String(part).replaceAll("*", "·")).join(";");
  return { count: `count[${text}]`, size: `size[${text}]`, rest: `rest[${text}]` };
}

/** Value of a dimension given the values of its symbols. @throws ShapeError for an unknown symbol */
export function evaluate(dimension: Dimension, symbols: Readonly<Record<string, number>>): number {
  if (typeof dimension === "number") return dimension;
  return dimension.split("*").reduce((value, part) => {
    const number = Number(part);
    if (Number.isInteger(number)) return value * number;
    const known = symbols[part] ?? chunkSize(part, symbols);
    if (known === undefined) throw new ShapeError(`size of symbol ${part} in ${dimension} is not known`);
    return value * known;
  }, 1);
}

function chunkSize(part: string, symbols: Readonly<Record<string, number>>): number | undefined {
  const [, kind, axis, unit, bound] = /^(count|size|rest)\[(.+);(.+);(\d+)\]$/.exec(part) ?? [];
  if (axis === undefined || unit === undefined) return undefined;
  const length = evaluate(axis.replaceAll("·", "*"), symbols);
  const most = Math.max(1, Math.floor(Number(bound) / evaluate(unit.replaceAll("·", "*"), symbols)));
  const count = Math.max(1, Math.ceil(length / most));
  const size = Math.ceil(length / count);
  return { count, size, rest: count * size - length }[kind as "count" | "size" | "rest"];
}

/** NumPy broadcasting of two shapes. @throws ShapeError when an axis pair is neither equal nor 1 */
export function broadcast(a: Shape, b: Shape, where: string): Shape {
  const rank = Math.max(a.length, b.length);
  return Array.from({ length: rank }, (_, index) => {
    const left = a[a.length - rank + index] ?? 1;
    const right = b[b.length - rank + index] ?? 1;
    if (left === right || right === 1) return left;
    if (left === 1) return right;
    throw new ShapeError(`${where}: ${shapeText(a)} and ${shapeText(b)} do not broadcast`);
  });
}
