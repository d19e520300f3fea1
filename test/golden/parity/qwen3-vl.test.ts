import { describeParity } from "./parity-suite.ts";

describeParity("qwen3-vl", ["tied", "untied", "one-key-head"]);
