import { describeParity } from "./parity-suite.ts";

describeParity("internvl", ["qwen3-tied", "qwen2-rms", "remote"]);
