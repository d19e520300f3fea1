export interface DecoderConfig {
  readonly vocabularySize: number;
  readonly hiddenSize: number;
  readonly intermediateSize: number;
  readonly layers: number;
  readonly heads: number;
  readonly keyValueHeads: number;
  readonly headSize: number;
  readonly epsilon: number;
  readonly tiesEmbeddings: boolean;
  /** Qwen2: biases on the projections of queries, keys and values. */
  readonly hasQueryKeyValueBias: boolean;
  /** Qwen3: RMS norm on each query and key head, before the rotary embedding. */
  readonly hasQueryKeyNorm: boolean;
  /** Gemma: norm gains are stored as their distance from 1. */
  readonly normsArePlusOne: boolean;
  readonly activation: "Silu" | "GeluTanh";
  /** Gemma: token embeddings are multiplied by √D; features of pictures are not. */
  readonly embeddingScale: number;
  /** Gemma 2: what scores are multiplied by; d^−½ unless given. */
  readonly attentionScale?: number;
  /** Gemma 2: scores and logits s become cap · tanh(s / cap); absent = they stay. */
  readonly attentionCap?: number;
  readonly logitCap?: number;
  /** Gemma 2: norms behind both branches too, before they are added. */
  readonly hasBranchNorms?: boolean;
  /** Gemma 2: layers in which the answer sees so many tokens only, itself included. */
  readonly sliding?: { readonly window: number; readonly layers: ReadonlySet<number> };
}
