/** Asked to end. Heard from the first moment on: what `serve` needs takes a second or more to load. */
const ending = new AbortController();
const end = (signal: NodeJS.Signals): void => ending.abort(signal);
process.once("SIGTERM", end);
process.once("SIGINT", end);

const { serve } = await import("./serve.ts");
await serve(ending);

export {};
