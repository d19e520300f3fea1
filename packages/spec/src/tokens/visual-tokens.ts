import type { VisualTokenScheme } from "../catalogue/architecture.ts";
import { anyResolutionTiling, anyResolutionTokens, resolutionsWithin, shownPatches } from "./any-resolution.ts";
import { refuseThin, smartResize, type PictureSize } from "./smart-resize.ts";
import { maxTilesWithin, tileCount, tileGrid } from "./tile-grid.ts";

/** What one picture costs. `tokens` are positions of the decoder, delimiters included; `patches` are rows of the vision tower. */
export interface PictureCost {
  readonly tokens: number;
  /** Placeholders alone, as the published tables count them. */
  readonly placeholderTokens: number;
  readonly patches: number;
  /** Patches that attend to one another at once. */
  readonly patchesPerSegment: number;
}

/** Bounds of a run spec's `image`, in pixels; they take the place of the model's own. */
export interface PixelLimits {
  readonly minPixels?: number | undefined;
  readonly maxPixels?: number | undefined;
}

/**
 * Exact cost of a picture of any size for a model family.
 *
 * @param limits  the run's own pixel bounds; tiled families lower their number of tiles so that they keep within `maxPixels`
 * @throws InvalidError `picture_too_thin` when one side is more than 200 times the other
 */
export function pictureCost(scheme: VisualTokenScheme, picture: PictureSize, limits: PixelLimits = {}): PictureCost {
  if (scheme.kind === "smart-resize") {
    const factor = scheme.patchSize * scheme.mergeSize;
    const size = smartResize(picture, factor, {
      minPixels: limits.minPixels ?? scheme.minPixels,
      maxPixels: limits.maxPixels ?? scheme.maxPixels,
    });
    const placeholderTokens = (size.width / factor) * (size.height / factor);
    const patches = placeholderTokens * scheme.mergeSize ** 2;
    return {
      placeholderTokens,
      tokens: placeholderTokens + scheme.delimiterTokens,
      patches,
      patchesPerSegment: patches,
    };
  }
  refuseThin(picture);
  if (scheme.kind === "cross-attention") {
    const patches = scheme.rowsOfPicture;
    return { placeholderTokens: 1, tokens: 1, patches, patchesPerSegment: patches };
  }
  if (scheme.kind === "any-resolution") {
    const side = scheme.tileSize / scheme.patchSize;
    const tiling = anyResolutionTiling(
      picture,
      scheme.tileSize,
      resolutionsWithin(scheme.resolutions, limits.maxPixels),
    );
    const placeholderTokens = anyResolutionTokens(shownPatches(picture, tiling, side), side);
    const patches = (1 + tiling.columns * tiling.rows) * side ** 2;
    return { placeholderTokens, tokens: placeholderTokens, patches, patchesPerSegment: side ** 2 };
  }
  const maxTiles = maxTilesWithin(scheme.maxTiles, scheme.tileSize, limits.maxPixels);
  const tiles = tileCount(tileGrid(picture, scheme.tileSize, Math.min(scheme.minTiles, maxTiles), maxTiles));
  const placeholderTokens = tiles * scheme.tokensPerTile;
  const patchesPerTile = (scheme.tileSize / scheme.patchSize) ** 2;
  return {
    placeholderTokens,
    tokens: placeholderTokens + tiles * scheme.extraTokensPerTile + scheme.delimiterTokens,
    patches: tiles * patchesPerTile,
    patchesPerSegment: patchesPerTile,
  };
}
