/** `15.4 GiB`, `312 MiB`. */
export function formatBytes(bytes: number): string {
  if (bytes === 0) return "0";
  if (bytes >= 2 ** 30) return `${trim(bytes / 2 ** 30, 2)} GiB`;
  if (bytes >= 2 ** 20) return `${trim(bytes / 2 ** 20, 1)} MiB`;
  return `${trim(bytes / 2 ** 10, 1)} KiB`;
}

/** `8.77 G`, `43.6 M`, `512`: a count with a decimal prefix. */
export function formatCount(count: number): string {
  if (count >= 1e9) return `${trim(count / 1e9, 2)} G`;
  if (count >= 1e6) return `${trim(count / 1e6, 1)} M`;
  if (count >= 1e4) return `${trim(count / 1e3, 1)} k`;
  return trim(count, 2);
}

/** `2 h 5 min`, `41 min`, `12 s`. */
export function formatSeconds(seconds: number): string {
  if (seconds < 90) return `${Math.round(seconds)} s`;
  const minutes = Math.round(seconds / 60);
  if (minutes < 120) return `${minutes} min`;
  const hours = Math.floor(minutes / 60);
  if (hours < 48) return `${hours} h ${minutes % 60} min`;
  return `${trim(minutes / 60 / 24, 1)} days`;
}

/** `262,144`: an integer with its thousands apart. `toLocaleString` would load its tables at the first plan, 10 ms. */
export function formatInteger(value: number): string {
  return String(value).replace(/\B(?=(\d{3})+$)/g, ",");
}

/** `3 GPUs`, `1 GPU`. */
export function plural(count: number, word: string): string {
  return `${formatInteger(count)} ${word}${count === 1 ? "" : "s"}`;
}

function trim(value: number, digits: number): string {
  return String(Number(value.toFixed(digits)));
}
