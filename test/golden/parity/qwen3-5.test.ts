import { describeParity } from "./parity-suite.ts";

describeParity("qwen3-5", ["hybrid", "equal-heads", "one-of-each"]);
