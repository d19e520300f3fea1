/** Asked to end. Heard from the first moment on: what `serve` needs takes a second or more to load. */
const ending = new AbortController();
let isLoaded = false;
const end = (signal: NodeJS.Signals): void => {
  if (!isLoaded) process.exit(0); // nothing is open yet
  ending.abort(signal);
};
process.once("SIGTERM", end);
process.once("SIGINT", end);

const { serve } = await import("./serve.ts");
isLoaded = true;
await serve(ending.signal);

export {};
