/** 1,536 → `1.5 KiB`. */
export function formatBytes(sizeBytes: number): string {
  const units = ["B", "KiB", "MiB", "GiB", "TiB"];
  const power = sizeBytes < 1 ? 0 : Math.min(units.length - 1, Math.floor(Math.log2(sizeBytes) / 10));
  const value = sizeBytes / 1024 ** power;
  return `${power === 0 ? value : value.toFixed(1)} ${units[power]}`;
}

/** 95 → `1m 35s`. */
export function formatDuration(seconds: number): string {
  const whole = Math.max(0, Math.round(seconds));
  const [hours, minutes, rest] = [Math.floor(whole / 3600), Math.floor((whole % 3600) / 60), whole % 60];
  if (hours > 0) return `${hours}h ${minutes}m`;
  return minutes > 0 ? `${minutes}m ${rest}s` : `${rest}s`;
}

/** Scores by metric on one line: `f1@0.5 61.2, iou 58.0`. */
export function formatScores(scores: Readonly<Record<string, number>> | null): string {
  if (scores === null) return "-";
  return Object.entries(scores)
    .map(([metric, score]) => `${metric} ${score.toFixed(1)}`)
    .join(", ");
}

/** A bar of `width` characters, filled up to `share` (0 to 1). */
export function bar(share: number, width = 24): string {
  const filled = Math.round(Math.max(0, Math.min(1, share)) * width);
  return `[${"█".repeat(filled)}${"░".repeat(width - filled)}]`;
}
