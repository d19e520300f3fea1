/**
 * What the planner must know of a model to count its parameters, memory, tokens and time. Every number is read from
 * the model's `config.json` under the field named in the comment; nothing is derived from the model's name.
 */
export interface Architecture {
  readonly text: TextDecoder;
  /** Null for a text-only model. */
  readonly vision: VisionTower | null;
  readonly bridge: Bridge | null;
  readonly visualTokens: VisualTokenScheme | null;
}

export interface TextDecoder {
  /** `hidden_size`. */
  readonly hiddenSize: number;
  /** `num_hidden_layers`. */
  readonly layers: number;
  /** `num_attention_heads`. */
  readonly heads: number;
  /** `num_key_value_heads`. */
  readonly keyValueHeads: number;
  /** `head_dim`, else hidden size / heads. */
  readonly headSize: number;
  /** `intermediate_size` of the gated MLP (three matrices). */
  readonly intermediateSize: number;
  /** `vocab_size`. */
  readonly vocabularySize: number;
  /** `tie_word_embeddings` of the top level. */
  readonly tiedEmbeddings: boolean;
  /** Biases on the query, key and value projections (Qwen2 and Qwen2.5). */
  readonly queryKeyValueBias: boolean;
  /** RMSNorm over the head size of queries and keys (Qwen3, Qwen3.5). */
  readonly queryKeyNorm: boolean;
  /** Gate of the same width beside the queries (`attn_output_gate`, Qwen3.5). */
  readonly outputGate: boolean;
  /** Layers that are gated DeltaNet instead of attention; null when every layer is attention. */
  readonly linearAttention: LinearAttention | null;
  /** Norms behind attention and MLP, too (Gemma 2). */
  readonly branchNorms?: boolean;
  /** Layers whose attention looks at pictures in place of the text, with norms over heads and two gates (Mllama). */
  readonly crossAttentionLayers?: number;
  /** Rows of the embedding beyond the vocabulary, for tokens that are never written (Mllama). */
  readonly furtherEmbeddings?: number;
}

/** Gated DeltaNet layers of Qwen3.5: every layer except each `fullAttentionInterval`-th. */
export interface LinearAttention {
  readonly fullAttentionInterval: number;
  readonly keyHeads: number;
  readonly keyHeadSize: number;
  readonly valueHeads: number;
  readonly valueHeadSize: number;
  readonly convolutionKernel: number;
}

export interface VisionTower {
  readonly hiddenSize: number;
  readonly layers: number;
  readonly heads: number;
  readonly intermediateSize: number;
  /** Gated MLP has three matrices (Qwen2.5-VL), plain has two. */
  readonly gatedMlp: boolean;
  /** RMSNorm has one parameter per channel, LayerNorm two. */
  readonly norm: "rms" | "layer";
  /** Values of one flattened patch: channels × frames × side². */
  readonly patchValues: number;
  readonly patchBias: boolean;
  /** Rows of the learned position table; 0 for rotary positions only. */
  readonly positionRows: number;
  readonly classToken: boolean;
  /** Two learned scales per block (InternViT). */
  readonly layerScale: boolean;
  /** A norm after the last block. */
  readonly finalNorm: boolean;
  /** A norm before the first block (CLIP). */
  readonly firstNorm?: boolean;
  /** False: no biases on the projections of queries, keys and values. */
  readonly queryKeyValueBias?: false;
  /** Norms over whole queries and keys (the 6B InternViT). */
  readonly queryKeyNorm?: boolean;
  /** False: no bias on the projection behind the attention. */
  readonly outputBias?: false;
  /** Learned embeddings of layouts of tiles, and gates (Mllama). */
  readonly otherParameters?: number;
  /** Patches that one visual token of the decoder stands for. */
  readonly patchesPerToken: number;
}

/** Linear layers (with bias) and norms between tower and decoder. */
export interface Bridge {
  readonly blocks: readonly BridgeBlock[];
}

export interface BridgeBlock {
  /** Parameters of the norms in this block. */
  readonly normParameters: number;
  /** `[in, out]` of each linear layer, each with a bias unless `biases` says no. */
  readonly linears: readonly (readonly [number, number])[];
  readonly biases?: false;
}

/** How a picture of any size becomes visual tokens. */
export type VisualTokenScheme = SmartResizeScheme | TileScheme | AnyResolutionScheme | CrossAttentionScheme;

/** Qwen: the picture is resized to multiples of `patchSize·mergeSize`, its area kept within two bounds (pixels). */
export interface SmartResizeScheme {
  readonly kind: "smart-resize";
  readonly patchSize: number;
  readonly mergeSize: number;
  readonly minPixels: number;
  readonly maxPixels: number;
  /** Tokens around the picture: vision start and end. */
  readonly delimiterTokens: number;
}

/** InternVL and NVILA, and with one tile LLaVA: the picture is cut into square tiles, with one thumbnail of the whole when there are several. */
export interface TileScheme {
  readonly kind: "tiles";
  readonly tileSize: number;
  readonly patchSize: number;
  readonly tokensPerTile: number;
  /** Further positions that each tile costs (NVILA: the end token and the newline of its `<image>` line). */
  readonly extraTokensPerTile: number;
  readonly minTiles: number;
  readonly maxTiles: number;
  readonly delimiterTokens: number;
}

/** LLaVA-NeXT: the picture is padded to one of a list of resolutions and cut into tiles, behind a small copy of the whole. */
export interface AnyResolutionScheme {
  readonly kind: "any-resolution";
  readonly tileSize: number;
  readonly patchSize: number;
  /** Height and width in pixels. */
  readonly resolutions: readonly (readonly [number, number])[];
}

/** Mllama: a picture is one position of the decoder, whatever its size, and is always filled up to all its tiles. */
export interface CrossAttentionScheme {
  readonly kind: "cross-attention";
  /** Rows of the vision tower, padding included: all attend to one another. */
  readonly rowsOfPicture: number;
}
