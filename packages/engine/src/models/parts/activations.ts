import { badConfig } from "./config-file.ts";

/** The element-wise functions of feed-forward layers, as the graph names them. */
export type Activation = "Silu" | "Gelu" | "GeluTanh" | "QuickGelu";

const byName: Readonly<Record<string, Activation>> = {
  silu: "Silu",
  swish: "Silu",
  gelu: "Gelu",
  gelu_new: "GeluTanh",
  gelu_pytorch_tanh: "GeluTanh",
  quick_gelu: "QuickGelu",
};

/** @param key  where config.json says so. @throws InvalidError (`bad_model_config`) for a function that is not known */
export function activationOf(name: string, key: string): Activation {
  const activation = Object.hasOwn(byName, name) ? byName[name] : undefined;
  if (!activation)
    throw badConfig(`${key} is "${name}", which Drydock does not know; it knows ${Object.keys(byName).join(", ")}`);
  return activation;
}
