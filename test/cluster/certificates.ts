import { randomBytes } from "node:crypto";
import { execFile } from "node:child_process";
import { readFile, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { promisify } from "node:util";

const run = promisify(execFile);

/** A certificate with its key, as paths. */
export interface KeyPair {
  readonly certificate: string;
  readonly key: string;
}

/** Who a client certificate speaks for: Kubernetes reads the user from CN and groups from O. */
export interface Subject {
  readonly commonName: string;
  readonly organization?: string;
  /** subjectAltName of a server, such as `IP:127.0.0.1`. */
  readonly alternativeNames?: readonly string[];
}

/** The certificate authority of one cluster, in a folder. Keys are elliptic curves: made in milliseconds. */
export class CertificateAuthority {
  readonly certificate: string;
  readonly #key: string;
  readonly #folder: string;

  private constructor(folder: string) {
    this.#folder = folder;
    this.certificate = join(folder, "ca.crt");
    this.#key = join(folder, "ca.key");
  }

  static async create(folder: string): Promise<CertificateAuthority> {
    const authority = new CertificateAuthority(folder);
    await newKey(authority.#key);
    const own = ["-x509", "-new", "-key", authority.#key, "-days", "3650", "-subj", "/CN=drydock-test-ca"];
    await run("openssl", ["req", ...own, "-out", authority.certificate]);
    return authority;
  }

  /** The authority that another process made in this folder. */
  static open(folder: string): CertificateAuthority {
    return new CertificateAuthority(folder);
  }

  async issue(name: string, { commonName, organization, alternativeNames = [] }: Subject): Promise<KeyPair> {
    const key = join(this.#folder, `${name}.key`);
    const certificate = join(this.#folder, `${name}.crt`);
    const request = join(this.#folder, `${name}.csr`);
    const extensions = join(this.#folder, `${name}.ext`);
    await newKey(key);
    const subject = `${organization === undefined ? "" : `/O=${organization}`}/CN=${commonName}`;
    await run("openssl", ["req", "-new", "-key", key, "-subj", subject, "-out", request]);
    const names = alternativeNames.length === 0 ? "" : `subjectAltName=${alternativeNames.join(",")}\n`;
    await writeFile(extensions, `${names}extendedKeyUsage=serverAuth,clientAuth\n`);
    const signing = [
      "-CA",
      this.certificate,
      "-CAkey",
      this.#key,
      "-set_serial",
      `0x${randomBytes(15).toString("hex")}`,
      "-days",
      "3650",
    ];
    await run("openssl", ["x509", "-req", "-in", request, ...signing, "-extfile", extensions, "-out", certificate]);
    return { certificate, key };
  }

  /** The authority's certificate in base64, as kubeconfigs and webhooks want it. */
  async bundle(): Promise<string> {
    return (await readFile(this.certificate)).toString("base64");
  }
}

async function newKey(path: string): Promise<void> {
  await run("openssl", ["ecparam", "-name", "prime256v1", "-genkey", "-noout", "-out", path]);
}

/** The key that signs tokens of service accounts; the API server wants RSA. */
export async function newServiceAccountKey(path: string): Promise<void> {
  await run("openssl", ["genrsa", "-out", path, "2048"]);
}
