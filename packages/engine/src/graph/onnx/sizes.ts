import { ShapeError, type Shape } from "../shape.ts";
import type { PlainNode } from "./plain-node.ts";

/**
 * Nodes that compute sizes `dim:<size>` `[1]` from the shapes of a graph's inputs, for graphs that stand by themselves.
 *
 * @param sizes    symbols and products of them, such as `B*T`
 * @param integer  name of a constant `[1]`
 * @throws ShapeError for a size that no input tells
 */
export function sizeNodes(
  sizes: readonly string[],
  inputs: ReadonlyMap<string, { readonly shape: Shape }>,
  integer: (value: number) => string,
): PlainNode[] {
  const nodes: PlainNode[] = [];
  const known = new Set<string>();
  const axes = [...inputs].flatMap(([name, { shape }]) =>
    shape.map((size, axis) => ({ name, axis, size: String(size) })),
  );

  function write(size: string, node: Omit<PlainNode, "outputs">): string {
    known.add(size);
    nodes.push({ ...node, outputs: [`dim:${size}`] });
    return `dim:${size}`;
  }

  function nameOf(size: string): string {
    if (known.has(size)) return `dim:${size}`;
    if (/^\d+$/.test(size)) return integer(Number(size));
    const direct = axes.find((each) => each.size === size);
    if (direct)
      return write(size, {
        type: "Shape",
        inputs: [direct.name],
        integers: { start: direct.axis, end: direct.axis + 1 },
      });
    const [first = size, ...others] = size.split("*");
    if (others.length > 0) {
      const rest = others.join("*");
      return write(size, { type: "Mul", inputs: [nameOf(first), nameOf(rest)] });
    }
    // A multiple of the symbol alone.
    const multiple = axes.find((each) => new RegExp(`^\\d+\\*${size}$`).test(each.size));
    if (!multiple) throw new ShapeError(`no input of the graph tells the size ${size}`);
    const factor = Number.parseInt(multiple.size, 10);
    return write(size, { type: "Div", inputs: [nameOf(multiple.size), integer(factor)] });
  }

  for (const size of sizes) nameOf(size);
  return nodes;
}
