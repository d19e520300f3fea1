import type { DType, Shape } from "../graph/shape.ts";
import type { Model } from "../models/model.ts";

/** What goes into and comes out of one exported graph. */
export interface ExportedGraph {
  readonly name: string;
  readonly inputs: readonly ExportedValue[];
  readonly outputs: readonly ExportedValue[];
}

export interface ExportedValue {
  readonly name: string;
  readonly shape: Shape;
  readonly dtype: DType;
}

/** What inputs and outputs mean that several families have. Others are told by their shapes, and by the examples. */
const meanings: Readonly<Record<string, string>> = {
  ids: "token ids, the rows one after the other; the image token where pictures stand",
  rows: "which of the `B*T` positions get logits: the last token of each row, to go on from there",
  cos: "cosines of the rotary angles: position × θ^(−2i/d) in float32, the axis (time, height, width) of slot i as the family's multimodal rotary embedding has it",
  sin: "sines of the same angles",
  reach: "the largest `order` that each token sees; its own for causal rows",
  order: "place of each token among the keys of its row; 2^30 for padding",
  mask: "added to the scores: 0 where a key is seen, −3.4028235e38 where not; the last key is the new token itself",
  logits: "one row per entry of `rows`; of `decode`, one row per row of the batch",
  patches:
    "pixels, normalised and cut into patches as `preprocessor_config.json` says; pictures padded to the longest with 0",
  "position-taps": "four rows of the position table for each patch, to interpolate between",
  "position-weights": "their weights",
  "vision-cos": "cosines of the patches' rotary angles, by row and column in the picture; 1 for padding",
  "vision-sin": "sines of the same",
  "vision-mask": "0 for patches, −3.4028235e38 for padding",
  "feature-rows": "which of the image tower's features are no padding",
  "image-rows": "which of the `B*T` positions they take",
};

export function exportReadme(name: string, model: Model, graphs: readonly ExportedGraph[]): string {
  return `# ${name} as ONNX

Written by \`drydock model export\`. Family \`${model.type}\`, vocabulary of ${model.vocabularySize}, at most ${model.contextWindow} tokens. Opset 23 and the domain \`com.microsoft\`: run it with ONNX Runtime 1.30 or newer. Weights are external data in the \`.safetensors\` files beside the graphs; keep them together.

\`prefill.onnx\` takes whole rows of text, \`prefill-images.onnx\` rows with pictures; both answer with logits and with what the next token needs (\`new.<slot>\`). \`decode.onnx\` takes one further token a row: \`past.<slot>\` is all that came before, along axis 2 of keys and values, and \`new.<slot>\` is to be appended to it. Tokenizer, chat template and picture settings are the model's own files, copied here.

\`example-*.safetensors\` hold one pass of each kind as Drydock computed it, inputs as \`input:<name>\`, outputs as \`output:<name>\`:

\`\`\`python
import numpy as np, onnxruntime as ort
from safetensors.numpy import load_file

tensors = load_file("example-prefill.safetensors")
session = ort.InferenceSession("prefill.onnx", providers=["CPUExecutionProvider"])
feeds = {i.name: tensors["input:" + i.name] for i in session.get_inputs()}
names = [o.name for o in session.get_outputs()]
for name, value in zip(names, session.run(names, feeds)):
    print(name, value.shape, np.abs(value - tensors["output:" + name]).max())
\`\`\`

Sizes in the tables: \`B\` rows, \`T\` tokens of the longest (padding behind), \`S\` tokens in \`past\`, \`W\` = S + T, \`L\` rows of logits; of pictures \`I\` their number, \`Q\` merged cells of the largest, \`N\` visual tokens in all.

${graphs.map(graphTables).join("\n")}`;
}

function graphTables({ name, inputs, outputs }: ExportedGraph): string {
  return `## ${name}.onnx

| input | type | shape | |
| --- | --- | --- | --- |
${inputs.map(row).join("\n")}

| output | type | shape | |
| --- | --- | --- | --- |
${outputs.map(row).join("\n")}
`;
}

function row({ name, shape, dtype }: ExportedValue): string {
  return `| \`${name}\` | ${dtype} | [${shape.join(", ").replaceAll("*", "\\*")}] | ${meaningOf(name)} |`;
}

function meaningOf(name: string): string {
  if (name.startsWith("past.")) return "what the tokens before left";
  if (name.startsWith("new.")) return "what these tokens leave for the next";
  return meanings[name] ?? "";
}
