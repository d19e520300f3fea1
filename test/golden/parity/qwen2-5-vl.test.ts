import { describeParity } from "./parity-suite.ts";

describeParity("qwen2-5-vl", ["tied", "untied", "all-windowed"]);
