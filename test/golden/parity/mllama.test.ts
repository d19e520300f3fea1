import { describeParity } from "./parity-suite.ts";

describeParity("mllama", ["four-tiles", "two-looks", "three-tiles"]);
