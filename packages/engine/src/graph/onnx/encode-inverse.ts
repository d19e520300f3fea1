import type { Node } from "../ops.ts";
import type { Encoder } from "./encoder.ts";

/**
 * The inverse of a pair of blocks from those of each: inv[[A, 0], [B, E]] = [[A⁻¹, 0], [−E⁻¹·B·A⁻¹, E⁻¹]]. With X the inverses of all
 * blocks of one size on the diagonal and B what lies below them in their pairs, that is X − X·B·X. Blocks begin with size 1, X = I.
 * (Doubling powers of the nilpotent part takes as many products and loses all digits where keys are alike.)
 */
export function encodeInverse(node: Node, encoder: Encoder, lower: string): void {
  const name = encoder.name(node);
  const size = Number(node.shape.at(-1));
  const square = (place: string, isOne: (row: number, column: number) => boolean): string => {
    const values = Float32Array.from({ length: size * size }, (_, index) =>
      Number(isOne(Math.floor(index / size), index % size)),
    );
    encoder.floats(place, [size, size], values);
    return place;
  };
  const below = (block: number): string =>
    square(`below-blocks-of-${block}-in-${size}`, (row, column) => {
      const isInPair = Math.floor(row / (2 * block)) === Math.floor(column / (2 * block));
      return isInPair && row % (2 * block) >= block && column % (2 * block) < block;
    });
  let inverse = square(`identity-${size}`, (row, column) => row === column);
  for (let block = 1; block < size; block *= 2) {
    const part = (what: string): string => `${name}:${what}${block}`;
    encoder.plain({ type: "Mul", inputs: [lower, below(block)], outputs: [part("below")] });
    let product = part("below");
    if (block > 1) {
      encoder.plain({ type: "MatMul", inputs: [inverse, product], outputs: [part("left")] });
      encoder.plain({ type: "MatMul", inputs: [part("left"), inverse], outputs: [part("both")] });
      product = part("both");
    }
    const next = 2 * block === size ? name : part("inverse");
    encoder.plain({ type: "Sub", inputs: [inverse, product], outputs: [next] });
    inverse = next;
  }
}
