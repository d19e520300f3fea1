import type { StoredPart } from "../model.ts";
import { renamed } from "../parts/file-names.ts";

/** The name in files of the form with code of its own. */
export function remoteNames(name: string): readonly string[] {
  return renamed(name, [
    [/^model\.language_model\./, "language_model.model."],
    [/^lm_head\./, "language_model.lm_head."],
    [/^model\.multi_modal_projector\.layer_norm\./, "mlp1.0."],
    [/^model\.multi_modal_projector\.linear_1\./, "mlp1.1."],
    [/^model\.multi_modal_projector\.linear_2\./, "mlp1.3."],
    [/^model\.vision_tower\.embeddings\.cls_token$/, "vision_model.embeddings.class_embedding"],
    [/^model\.vision_tower\.embeddings\.position_embeddings$/, "vision_model.embeddings.position_embedding"],
    [/^model\.vision_tower\.embeddings\.patch_embeddings\.projection\./, "vision_model.embeddings.patch_embedding."],
    [/^model\.vision_tower\.encoder\.layer\.(\d+)\./, "vision_model.encoder.layers.$1."],
    [/\.attention\.[qkv]_proj\./, ".attn.qkv."],
    [/\.attention\.projection_layer\./, ".attn.proj."],
    [/\.attention\.([qk]_norm)\./, ".attn.$1."],
    [/\.layernorm_before\./, ".norm1."],
    [/\.layernorm_after\./, ".norm2."],
    [/\.lambda_([12])$/, ".ls$1"],
  ]);
}

/** Queries, keys and values of a block of the tower lie in one tensor, one after the other. */
export function remotePart(name: string): StoredPart | null {
  const part = /^model\.vision_tower\..*\.attention\.([qkv])_proj\./.exec(name)?.[1];
  return part === undefined ? null : { index: "qkv".indexOf(part), count: 3 };
}
