import { expect, test } from "vitest";
import { readConfig } from "./config.ts";

const environment = {
  TEMPORAL_ADDRESS: "localhost:7233",
  DRYDOCK_API_URL: "http://localhost:8080",
  DRYDOCK_INTERNAL_KEY: "key",
  STORAGE_URL: "file:///data",
  MODELS_DIRECTORY: "/models",
  DRYDOCK_CONTROLLER_STATE: "/state",
  DRYDOCK_BACKEND: "kubernetes",
};

test("quotas of queues are read by queue and accelerator; without them there are none", () => {
  const quotas = { default: { "nvidia-h100-80gb": 16 }, research: {} };
  const config = readConfig({ ...environment, DRYDOCK_QUEUE_QUOTAS: JSON.stringify(quotas) });
  expect(config.kubernetes?.queueQuotas).toEqual(quotas);
  expect(readConfig(environment).kubernetes?.queueQuotas).toEqual({});
});

test.each(["16", "{", '{"default":16}', '{"default":{"nvidia-h100-80gb":-1}}', '{"default":{"nvidia-h100-80gb":"8"}}'])(
  "quotas that are none are refused with what they must be: %s",
  (text) => {
    expect(() => readConfig({ ...environment, DRYDOCK_QUEUE_QUOTAS: text })).toThrow(
      'controller: DRYDOCK_QUEUE_QUOTAS: must be JSON with a whole number of GPUs by queue and accelerator, such as {"default":{"nvidia-h100-80gb":16}}',
    );
  },
);
