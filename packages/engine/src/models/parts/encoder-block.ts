import type { Node } from "../../graph/ops.ts";
import type { Variables } from "../variables.ts";
import type { Activation } from "./activations.ts";
import { tileAttention } from "./tile-attention.ts";

export interface EncoderBlock {
  readonly hiddenSize: number;
  readonly intermediateSize: number;
  readonly heads: number;
  /** Rows of a tile, the class token included. */
  readonly rowsPerTile: number;
  readonly epsilon: number;
  readonly activation: Activation;
}

/** Pre-norm transformer block of CLIP and SigLIP: `x [rows·K, V]` to the same shape, each tile by itself. */
export function encoderBlock(variables: Variables, config: EncoderBlock, path: string, x: Node): Node {
  const { graph } = variables;
  const { hiddenSize: width, intermediateSize, heads, rowsPerTile } = config;
  const norm = (name: string, input: Node): Node => variables.layerNorm(`${path}.${name}`, input, config.epsilon);
  const attention = { width, heads, rowsPerTile, hasQueryKeyValueBias: true, output: "out_proj" };
  const middle = graph.add(x, tileAttention(variables, attention, `${path}.self_attn`, norm("layer_norm1", x)));
  const hidden = variables.linear(`${path}.mlp.fc1`, norm("layer_norm2", middle), {
    in: width,
    out: intermediateSize,
    hasBias: true,
  });
  const mixed = variables.linear(`${path}.mlp.fc2`, graph.unary(config.activation, hidden), {
    in: intermediateSize,
    out: width,
    hasBias: true,
  });
  return graph.add(middle, mixed);
}
