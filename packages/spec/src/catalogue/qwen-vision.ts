import type { Architecture, BridgeBlock, SmartResizeScheme, VisionTower } from "./architecture.ts";

type Eyes = Required<Pick<Architecture, "vision" | "bridge" | "visualTokens">>;

interface Qwen3VisionSizes {
  readonly hiddenSize: number;
  readonly layers: number;
  readonly heads: number;
  readonly intermediateSize: number;
  readonly outputSize: number;
  readonly patchSize: number;
  readonly mergeSize: number;
  readonly positionRows: number;
  /** Extra mergers that feed early decoder layers; 0 in Qwen3.5. */
  readonly deepstackMergers: number;
}

/** Bounds of the published preprocessor file of Qwen3-VL and Qwen3.5, in pixels (64 … 16,384 tokens). */
export const qwen3PixelBounds = { minPixels: 65_536, maxPixels: 16_777_216 } as const;

/** Vision tower, mergers and token scheme of Qwen3-VL and Qwen3.5. */
export function qwen3Vision(
  sizes: Qwen3VisionSizes,
  bounds: { minPixels: number; maxPixels: number } = qwen3PixelBounds,
): Eyes {
  const merged = sizes.hiddenSize * sizes.mergeSize ** 2;
  const linears = [
    [merged, merged],
    [merged, sizes.outputSize],
  ] as const;
  const final: BridgeBlock = { normParameters: 2 * sizes.hiddenSize, linears };
  const deepstack: BridgeBlock = { normParameters: 2 * merged, linears };
  const vision: VisionTower = {
    hiddenSize: sizes.hiddenSize,
    layers: sizes.layers,
    heads: sizes.heads,
    intermediateSize: sizes.intermediateSize,
    gatedMlp: false,
    norm: "layer",
    patchValues: 3 * 2 * sizes.patchSize ** 2,
    patchBias: true,
    positionRows: sizes.positionRows,
    classToken: false,
    layerScale: false,
    finalNorm: false,
    patchesPerToken: sizes.mergeSize ** 2,
  };
  return {
    vision,
    bridge: { blocks: [final, ...Array.from({ length: sizes.deepstackMergers }, () => deepstack)] },
    visualTokens: smartResize(sizes.patchSize, sizes.mergeSize, bounds),
  };
}

interface Qwen25VisionSizes {
  readonly hiddenSize: number;
  readonly layers: number;
  readonly heads: number;
  readonly intermediateSize: number;
  readonly outputSize: number;
  readonly patchSize: number;
  readonly mergeSize: number;
}

/** Bounds of the published preprocessor file of Qwen2.5-VL, in pixels (4 … 16,384 tokens). */
export const qwen25PixelBounds = { minPixels: 3136, maxPixels: 12_845_056 } as const;

/** The tower that every published size of Qwen2.5-VL up to 7B shares. */
export const qwen25PublishedTower = {
  hiddenSize: 1280,
  layers: 32,
  heads: 16,
  intermediateSize: 3420,
  patchSize: 14,
  mergeSize: 2,
} as const;

/** Vision tower, merger and token scheme of Qwen2.5-VL. */
export function qwen25Vision(
  sizes: Qwen25VisionSizes,
  bounds: { minPixels: number; maxPixels: number } = qwen25PixelBounds,
): Eyes {
  const merged = sizes.hiddenSize * sizes.mergeSize ** 2;
  const vision: VisionTower = {
    hiddenSize: sizes.hiddenSize,
    layers: sizes.layers,
    heads: sizes.heads,
    intermediateSize: sizes.intermediateSize,
    gatedMlp: true,
    norm: "rms",
    patchValues: 3 * 2 * sizes.patchSize ** 2,
    patchBias: false,
    positionRows: 0,
    classToken: false,
    layerScale: false,
    finalNorm: false,
    patchesPerToken: sizes.mergeSize ** 2,
  };
  return {
    vision,
    bridge: {
      blocks: [
        {
          normParameters: sizes.hiddenSize,
          linears: [
            [merged, merged],
            [merged, sizes.outputSize],
          ],
        },
      ],
    },
    visualTokens: smartResize(sizes.patchSize, sizes.mergeSize, bounds),
  };
}

function smartResize(
  patchSize: number,
  mergeSize: number,
  bounds: { minPixels: number; maxPixels: number },
): SmartResizeScheme {
  return {
    kind: "smart-resize",
    patchSize,
    mergeSize,
    minPixels: bounds.minPixels,
    maxPixels: bounds.maxPixels,
    delimiterTokens: 2,
  };
}
