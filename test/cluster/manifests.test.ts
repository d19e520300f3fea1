import { execFile } from "node:child_process";
import { join, resolve } from "node:path";
import { promisify } from "node:util";
import { beforeAll, expect, test } from "vitest";
import { containerSettings } from "../../images/containerfile.ts";
import { imageFiles } from "../../images/image-files.ts";
import { programOf } from "./build/tools.ts";
import type { Cluster } from "./cluster.ts";
import { readManifests } from "./manifests.ts";
import { sharedCluster } from "./shared-cluster.ts";

const run = promisify(execFile);
const folder = resolve(import.meta.dirname, "..", "..", "k8s");

let cluster: Cluster;
beforeAll(async () => {
  cluster = await sharedCluster();
});

test.each(["system", "runs", "queues"])("kubectl apply -k k8s/%s is accepted as the guide says it", async (name) => {
  // The queues of a namespace need it: `runs` is applied for good, the others are asked about.
  const kubectl = async (...parameters: string[]) =>
    await run(programOf("kubernetes", "kubectl"), [`--kubeconfig=${cluster.plane.adminKubeconfig}`, ...parameters]);
  await kubectl("apply", "--server-side", "--force-conflicts", "-k", join(folder, "runs"));
  const wanted = ["--server-side", "--force-conflicts", "--dry-run=server", "-k", join(folder, name)];
  const { stdout } = await kubectl("apply", ...wanted);
  const lines = stdout.trim().split("\n");
  expect(lines).toHaveLength((await readManifests(join(folder, name))).length);
  expect(lines.every((line) => line.endsWith("serverside-applied (server dry run)"))).toBe(true);
});

test("the deployments run what the Containerfiles build, as the user they name, without root or privileges", async () => {
  for (const name of ["api", "controller"]) {
    const objects = await readManifests(join(folder, "system", `${name}.yaml`));
    const deployment = objects.find(({ kind }) => kind === "Deployment");
    const [user] = containerSettings(name).user.split(":");
    expect(deployment).toMatchObject({
      spec: {
        template: {
          spec: {
            securityContext: {
              runAsNonRoot: true,
              runAsUser: Number(user),
              seccompProfile: { type: "RuntimeDefault" },
            },
            containers: [
              {
                image: `drydock/${name}:0.1.0`,
                securityContext: {
                  allowPrivilegeEscalation: false,
                  readOnlyRootFilesystem: true,
                  capabilities: { drop: ["ALL"] },
                },
              },
            ],
          },
        },
      },
    });
  }
});

test.each(["api", "controller", "worker"] as const)("the image of %s has what its start imports", (service) => {
  const { own, dependencies } = imageFiles(service);
  expect(own).toContain(`services/${service}/src`);
  expect(own).toContain("packages/kit/src");
  expect(dependencies).toContain("node_modules/zod");
  expect(dependencies).not.toContain("node_modules/vitest");
  const settings = containerSettings(service);
  expect(settings.copied.map(({ from }) => from)).toEqual(["dependencies/", "own/"]);
  expect(settings.entrypoint).toEqual(["node", `services/${service}/src/main.ts`]);
});

test("the CUDA worker copies the same files and starts the same program as the one for processors", () => {
  const { copied, entrypoint, user, workingDirectory } = containerSettings("worker");
  expect(containerSettings("worker-cuda")).toMatchObject({ copied, entrypoint, user, workingDirectory });
});
