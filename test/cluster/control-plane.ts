import { randomBytes } from "node:crypto";
import { once } from "node:events";
import { mkdir, readFile, writeFile } from "node:fs/promises";
import { createServer } from "node:net";
import { join } from "node:path";
import { CertificateAuthority, newServiceAccountKey, type KeyPair } from "./certificates.ts";
import { Component } from "./component.ts";
import { KubeClient } from "./kube-client.ts";
import { ensureTool } from "./build/build-tool.ts";
import { programOf } from "./build/tools.ts";

export interface ControlPlaneOptions {
  readonly folder: string;
  /** Address that nodes reach the API server by. */
  readonly address?: string;
  /** Durable writes of etcd: needed where it is killed, slow otherwise. */
  readonly isDurable?: boolean;
  /** Writes of every client to `audit.log` in the folder, one JSON object a line. */
  readonly hasAudit?: boolean;
  /** A node that was silent for so long counts as lost. */
  readonly nodeGraceSeconds?: number;
}

/** etcd, API server, controller manager and scheduler on free ports of this computer, RBAC and admission on. */
export interface ControlPlane {
  readonly server: string;
  readonly folder: string;
  readonly authority: CertificateAuthority;
  readonly admin: KubeClient;
  readonly components: readonly Component[];
  /** Writes a kubeconfig of a user known by token or certificate. */
  kubeconfig(name: string, credentials: string | KeyPair): Promise<string>;
  readonly adminKubeconfig: string;
  readonly adminToken: string;
}

/** What another process needs to know of a control plane. */
export interface ControlPlaneConnection {
  readonly server: string;
  readonly folder: string;
  readonly adminToken: string;
}

/** The control plane that another process on this computer started. It has no components here. */
export async function connectControlPlane(connection: ControlPlaneConnection): Promise<ControlPlane> {
  const { server, folder, adminToken } = connection;
  const authority = CertificateAuthority.open(certificatesIn(folder));
  const ca = await readFile(authority.certificate);
  return {
    server,
    folder,
    authority,
    admin: new KubeClient(server, ca, adminToken),
    components: [],
    kubeconfig: (name, credentials) => writeKubeconfig({ folder, server, certificateAuthority: ca, name, credentials }),
    adminKubeconfig: join(folder, `${adminName}.kubeconfig`),
    adminToken,
  };
}

const adminName = "admin";

function certificatesIn(folder: string): string {
  return join(folder, "certificates");
}

const adminUser = "drydock-admin";

/** Starts all four and waits until the API server is ready. */
export async function startControlPlane(options: ControlPlaneOptions): Promise<ControlPlane> {
  const { folder, address = "127.0.0.1", isDurable = false, hasAudit = false, nodeGraceSeconds = 8 } = options;
  const certificates = certificatesIn(folder);
  await mkdir(certificates, { recursive: true });
  await mkdir(join(folder, "logs"), { recursive: true });
  const authority = await CertificateAuthority.create(certificates);
  const serving = await authority.issue("apiserver", {
    commonName: "kube-apiserver",
    alternativeNames: ["IP:127.0.0.1", `IP:${address}`, "IP:10.96.0.1", "DNS:localhost", "DNS:kubernetes.default.svc"],
  });
  const kubelet = await authority.issue("apiserver-kubelet", {
    commonName: "kube-apiserver-kubelet",
    organization: "system:masters",
  });
  const serviceAccountKey = join(certificates, "service-accounts.key");
  await newServiceAccountKey(serviceAccountKey);
  const adminToken = randomBytes(24).toString("hex");
  const tokens = join(certificates, "tokens.csv");
  await writeFile(tokens, `${adminToken},${adminUser},${adminUser},"system:masters"\n`, { mode: 0o600 });

  const [etcdPort, peerPort, apiPort] = [await freePort(), await freePort(), await freePort()];
  const etcdUrl = `http://127.0.0.1:${etcdPort}`;
  const server = `https://${address}:${apiPort}`;
  const ca = await readFile(authority.certificate);
  const admin = new KubeClient(server, ca, adminToken);
  await ensureTool("kubernetes");
  const logPath = (name: string): string => join(folder, "logs", `${name}.log`);
  const isHealthy = async (): Promise<boolean> => (await admin.call<string>("GET", "/readyz")) === "ok";

  const kubeconfig = (name: string, credentials: string | KeyPair): Promise<string> =>
    writeKubeconfig({ folder, server, certificateAuthority: ca, name, credentials });
  const adminKubeconfig = await kubeconfig(adminName, adminToken);

  const etcd = new Component({
    name: "etcd",
    program: await ensureTool("etcd"),
    parameters: etcdParameters(folder, etcdUrl, `http://127.0.0.1:${peerPort}`, isDurable),
    logPath: logPath("etcd"),
    isReady: async () => (await fetch(`${etcdUrl}/health`)).ok,
  });
  const apiServer = new Component({
    name: "apiserver",
    program: programOf("kubernetes", "kube-apiserver"),
    parameters: [
      ...apiServerParameters({ etcdUrl, address, port: apiPort, tokens, serviceAccountKey }),
      `--tls-cert-file=${serving.certificate}`,
      `--tls-private-key-file=${serving.key}`,
      `--client-ca-file=${authority.certificate}`,
      `--kubelet-client-certificate=${kubelet.certificate}`,
      `--kubelet-client-key=${kubelet.key}`,
      ...(hasAudit ? await auditParameters(folder) : []),
    ],
    logPath: logPath("apiserver"),
    isReady: isHealthy,
  });
  const common = [`--kubeconfig=${adminKubeconfig}`, "--leader-elect=false", "--bind-address=127.0.0.1"];
  const [managerPort, schedulerPort] = [await freePort(), await freePort()];
  const manager = new Component({
    name: "controller-manager",
    program: programOf("kubernetes", "kube-controller-manager"),
    parameters: [
      ...common,
      `--secure-port=${managerPort}`,
      `--root-ca-file=${authority.certificate}`,
      `--service-account-private-key-file=${serviceAccountKey}`,
      "--use-service-account-credentials",
      "--authorization-always-allow-paths=/healthz,/readyz,/livez,/metrics",
      // Lost nodes are noticed in seconds, so that tests need not wait for minutes.
      "--node-monitor-period=1s",
      `--node-monitor-grace-period=${nodeGraceSeconds}s`,
      "--concurrent-job-syncs=20",
      "--kube-api-qps=1000",
      "--kube-api-burst=2000",
    ],
    logPath: logPath("controller-manager"),
    isReady: async () => (await admin.list("/api/v1/namespaces/default/serviceaccounts")).length > 0,
  });
  const scheduler = new Component({
    name: "scheduler",
    program: programOf("kubernetes", "kube-scheduler"),
    parameters: [...common, `--secure-port=${schedulerPort}`, "--kube-api-qps=1000", "--kube-api-burst=2000"],
    logPath: logPath("scheduler"),
    isReady: isHealthy,
  });

  await etcd.start();
  await apiServer.start();
  manager.launch();
  scheduler.launch();
  await Promise.all([manager.ready(), scheduler.ready()]);
  const components = [etcd, apiServer, manager, scheduler];
  return { server, folder, authority, admin, components, kubeconfig, adminKubeconfig, adminToken };
}

function etcdParameters(folder: string, url: string, peerUrl: string, isDurable: boolean): string[] {
  return [
    "--name=node0",
    `--data-dir=${join(folder, "etcd")}`,
    `--listen-client-urls=${url}`,
    `--advertise-client-urls=${url}`,
    `--listen-peer-urls=${peerUrl}`,
    `--initial-advertise-peer-urls=${peerUrl}`,
    `--initial-cluster=node0=${peerUrl}`,
    "--auto-compaction-retention=1",
    "--quota-backend-bytes=4294967296",
    ...(isDurable ? [] : ["--unsafe-no-fsync"]),
  ];
}

interface ApiServerPlace {
  readonly etcdUrl: string;
  readonly address: string;
  readonly port: number;
  readonly tokens: string;
  readonly serviceAccountKey: string;
}

function apiServerParameters({ etcdUrl, address, port, tokens, serviceAccountKey }: ApiServerPlace): string[] {
  return [
    `--etcd-servers=${etcdUrl}`,
    `--bind-address=${address}`,
    `--secure-port=${port}`,
    `--advertise-address=${address}`,
    "--kubelet-preferred-address-types=InternalIP",
    "--allow-privileged=true",
    "--authorization-mode=Node,RBAC",
    `--token-auth-file=${tokens}`,
    "--service-account-issuer=https://kubernetes.default.svc.cluster.local",
    `--service-account-key-file=${serviceAccountKey}`,
    `--service-account-signing-key-file=${serviceAccountKey}`,
    "--service-cluster-ip-range=10.96.0.0/16",
    // One address serves all: the reconciler would complain about loopback every ten seconds.
    "--endpoint-reconciler-type=none",
    "--max-requests-inflight=2000",
    "--max-mutating-requests-inflight=1000",
  ];
}

/** Who wrote what and when, as the API server saw it: what tests of invariants read. Bodies, and so secrets, stay out. */
async function auditParameters(folder: string): Promise<string[]> {
  const policy = join(folder, "audit-policy.json");
  await writeFile(
    policy,
    JSON.stringify({
      apiVersion: "audit.k8s.io/v1",
      kind: "Policy",
      omitStages: ["RequestReceived"],
      rules: [
        { level: "None", resources: [{ group: "coordination.k8s.io", resources: ["leases"] }] },
        { level: "Metadata", verbs: ["create", "update", "patch", "delete", "deletecollection"] },
        { level: "None" },
      ],
    }),
  );
  return [`--audit-policy-file=${policy}`, `--audit-log-path=${join(folder, "audit.log")}`];
}

interface Kubeconfig {
  readonly folder: string;
  readonly server: string;
  readonly certificateAuthority: Buffer;
  readonly name: string;
  readonly credentials: string | KeyPair;
}

/** Writes a kubeconfig of a user known by token or certificate, and returns its path. */
export async function writeKubeconfig(wanted: Kubeconfig): Promise<string> {
  const { folder, server, certificateAuthority, name, credentials } = wanted;
  const path = join(folder, `${name}.kubeconfig`);
  const cluster = { server, "certificate-authority-data": certificateAuthority.toString("base64") };
  const user =
    typeof credentials === "string"
      ? { token: credentials }
      : { "client-certificate": credentials.certificate, "client-key": credentials.key };
  const config = {
    apiVersion: "v1",
    kind: "Config",
    clusters: [{ name: "test", cluster }],
    users: [{ name, user }],
    contexts: [{ name: "test", context: { cluster: "test", user: name } }],
    "current-context": "test",
  };
  await writeFile(path, JSON.stringify(config, null, 2), { mode: 0o600 });
  return path;
}

/** A port of an address of this computer that was free there a moment ago. */
export async function freePort(host = "127.0.0.1"): Promise<number> {
  const server = createServer().listen(0, host);
  await once(server, "listening");
  const address = server.address();
  server.close();
  await once(server, "close");
  if (address === null || typeof address === "string") throw new Error("no port");
  return address.port;
}
