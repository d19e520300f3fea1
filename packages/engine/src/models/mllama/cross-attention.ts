/*
 * Decoder layers of Mllama that look at pictures: queries of the text, keys and values of the pictures, both branches gated.
 *
 * Shapes: B rows, T tokens, D width, K key heads, d head size, C pictures of the row that has most, N keys of a picture.
 * Source: `MllamaCrossAttentionDecoderLayer` of `modeling_mllama.py`, huggingface/transformers 5.23.
 */
import type { Node } from "../../graph/ops.ts";
import { product, type Dimension } from "../../graph/shape.ts";
import { groupedAttention } from "../parts/grouped-attention.ts";
import type { LayerCache } from "../parts/key-value-cache.ts";
import { gatedMlp } from "../parts/text-decoder.ts";
import type { DecoderConfig } from "../parts/decoder-config.ts";
import type { Variables } from "../variables.ts";
import type { Sight } from "./sight.ts";

/** Features of all pictures and where they go. */
export interface SeenPictures {
  /** `[I·N, D]`. */
  readonly features: Node;
  /** `[I]` int64: place of each picture among C places a row. */
  readonly slots: Node;
}

/** `x [B·T, D]` to the same shape. */
export function crossAttentionLayer(
  variables: Variables,
  config: DecoderConfig,
  path: string,
  x: Node,
  { key, value }: LayerCache,
  sight: Sight,
): Node {
  const { graph } = variables;
  const { heads, headSize, hiddenSize } = config;
  const norm = (name: string, input: Node): Node => variables.rmsNorm(`${path}.${name}`, input, config.epsilon);
  const gate = (name: string): Node => graph.unary("Tanh", variables.weight(`${path}.${name}`, [1]));
  const sizes = { in: hiddenSize, out: heads * headSize };
  const projected = variables.linear(`${path}.cross_attn.q_proj`, norm("input_layernorm", x), sizes);
  const query = norm("cross_attn.q_norm", graph.reshape(projected, ["B", "T", heads, headSize]));
  const mixed = groupedAttention(variables, {
    query: graph.transpose(query, [0, 2, 1, 3]),
    key,
    value,
    mask: sight.mask,
  });
  const attended = variables.linear(`${path}.cross_attn.o_proj`, mixed, { in: sizes.out, out: hiddenSize });
  const shown = graph.mul(sight.rowHasPictures, gate("cross_attn_attn_gate"));
  const middle = graph.add(x, graph.mul(shown, attended));
  const fed = gatedMlp(variables, config, `${path}.mlp`, norm("post_attention_layernorm", middle), null);
  return graph.add(middle, graph.mul(graph.mul(sight.tokenSees, gate("cross_attn_mlp_gate")), fed));
}

/** Keys and values of the pictures of each row, `[B, K, C·N, d]`, 0 where a row has fewer. */
export function pictureKeys(
  variables: Variables,
  config: DecoderConfig,
  path: string,
  { features, slots }: SeenPictures,
  keys: number,
): LayerCache {
  const { graph } = variables;
  const { keyValueHeads, headSize, hiddenSize } = config;
  const [rows] = features.shape as [Dimension];
  const width = keyValueHeads * headSize;
  const byHead = (name: string): Node => {
    const projected = variables.linear(`${path}.cross_attn.${name}`, features, { in: hiddenSize, out: width });
    return graph.reshape(projected, [rows, keyValueHeads, headSize]);
  };
  const byRow = (values: Node): Node => {
    const pictures = graph.reshape(values, ["I", keys * width]);
    const places = graph.scatterRows(graph.fill(0, [product(["B", "C"]), keys * width]), slots, pictures);
    const all = graph.reshape(places, ["B", product(["C", keys]), keyValueHeads, headSize]);
    return graph.transpose(all, [0, 2, 1, 3]);
  };
  const key = variables.rmsNorm(`${path}.cross_attn.k_norm`, byHead("k_proj"), config.epsilon);
  return { key: byRow(key), value: byRow(byHead("v_proj")) };
}
