/**
 * One tree seen twice: by Node's own `fs.promises`, and by `volume.fs` over an image of it.
 *
 *     const twins = await makeTwins(scratchDirectory("twins"));
 *     await twins.compare((fs) => fs.readFile("text", "utf8"));     // same value or same error
 *
 * Paths are relative: Node takes them from the working directory, which `makeTwins` sets to the
 * tree, and a volume from its root, so that errors can be compared to the letter. The oracle is the
 * directory that the image was made from or, as root, a read-only mount of the image itself.
 */
import * as nodeFs from "node:fs";
import * as nodePromises from "node:fs/promises";
import { join } from "node:path";
import { expect } from "vitest";
import { openImage } from "../../src/front/open-image.ts";
import type { Volume } from "../../src/front/volume.ts";
import { Random } from "../../src/lib/random.ts";
import { GIB, MIB } from "../../src/lib/units.ts";
import { asRoot, runTool } from "./tools.ts";

/** The calls that both have. */
export type FsApi = typeof nodePromises;

/** A name that is not UTF-8. */
export const ODD_NAME: Buffer = Buffer.from([0x6f, 0xff, 0xfe, 0x80, 0x2e, 0x64]);
export const LONG_NAME: string = "n".repeat(255);
const MTIME_SEC = 1_500_000_000;

function writeSparse(path: string, sizeBytes: number, data: ReadonlyMap<number, string>): void {
  const fd = nodeFs.openSync(path, "w");
  for (const [at, text] of data) nodeFs.writeSync(fd, text, at);
  nodeFs.ftruncateSync(fd, sizeBytes);
  nodeFs.closeSync(fd);
}

/** Fills the new directory `root` with files of many kinds. */
function makeTree(root: string): void {
  const at = (name: string): string => join(root, name);
  const random = new Random(7);
  nodeFs.mkdirSync(root, 0o755);
  nodeFs.mkdirSync(at("lost+found"), 0o700);
  nodeFs.writeFileSync(at("empty"), "");
  nodeFs.writeFileSync(at("text"), "one\ntwo\r\nthrée\n\nlast without end ✓");
  nodeFs.writeFileSync(at("large"), random.bytes(MIB + 17));
  nodeFs.writeFileSync(at("run"), "#!/bin/sh\n", { mode: 0o755 });
  nodeFs.writeFileSync(at(LONG_NAME), "a name of 255 bytes");
  nodeFs.writeFileSync(at("\ufeffmarked"), "a name that begins with a byte order mark");
  nodeFs.writeFileSync(at("new\nline"), "x");
  nodeFs.writeFileSync(Buffer.concat([Buffer.from(`${root}/`), ODD_NAME]), "odd");
  nodeFs.mkdirSync(at("a/b/c"), { recursive: true });
  nodeFs.mkdirSync(at("a/none"));
  nodeFs.writeFileSync(at("a/b/c/deep"), "down here");
  nodeFs.writeFileSync(at("a/b/side"), "beside");
  nodeFs.mkdirSync(at("plain/x/y"), { recursive: true });
  for (const name of ["plain/one", "plain/x/two", "plain/x/y/three", "plain/x/y/ü"]) {
    nodeFs.writeFileSync(at(name), name);
  }
  nodeFs.symlinkSync("one", at("plain/link"));
  nodeFs.mkdirSync(at("many"));
  for (let n = 0; n < 300; n++) nodeFs.writeFileSync(at(`many/name-${n}`), String(n));
  nodeFs.linkSync(at("text"), at("second"));
  writeSparse(
    at("sparse"),
    9 * MIB,
    new Map([
      [0, "head"],
      [5 * MIB + 3, "middle"],
    ]),
  );
  writeSparse(at("over-2g"), 2 * GIB, new Map([[0, "x"]]));
  const far = 2 ** 41 + 12_345;
  writeSparse(
    at("huge"),
    3 * 1024 * GIB,
    new Map([
      [2 ** 32 + 1, "past 4 GiB"],
      [far, "past 2 TiB"],
    ]),
  );
  const links: [string, string][] = [
    ["to-file", "text"],
    ["to-dir", "a/b"],
    ["to-dir-slash", "a/b/"],
    ["to-file-slash", "text/"],
    ["dangling", "nowhere/at all"],
    ["self", "self"],
    ["ping", "pong"],
    ["pong", "ping"],
    ["up", "../../../../../../../../../../../../.."],
    ["a/up", ".."],
    ["slow", `${"./".repeat(200)}text`],
    ["chain-0", "text"],
  ];
  for (let n = 1; n <= 41; n++) links.push([`chain-${n}`, `chain-${n - 1}`]);
  for (const [name, target] of links) nodeFs.symlinkSync(target, at(name));
  runTool("mkfifo", [at("fifo")]);
  if (asRoot()) {
    runTool("mknod", [at("null"), "c", "1", "3"]);
    runTool("mknod", [at("disk"), "b", "259", "300"]);
  }
  nodeFs.chmodSync(at("empty"), 0o4751);
  nodeFs.chmodSync(at("a/none"), 0o1777);
  setTimes(Buffer.from(root));
}

/** Whole seconds, since mke2fs keeps no more of a time. */
function setTimes(path: Buffer): void {
  if (nodeFs.lstatSync(path).isDirectory()) {
    for (const name of nodeFs.readdirSync(path, { encoding: "buffer" })) {
      setTimes(Buffer.concat([path, Buffer.from("/"), name]));
    }
  }
  nodeFs.lutimesSync(path, MTIME_SEC + 5, MTIME_SEC);
}

/** What a call ended with, as plain data. */
export type Outcome = { readonly value: unknown } | { readonly error: unknown };

/** What `call` gives or throws, in a form that `toEqual` compares and prints. */
export async function outcomeOf(call: () => unknown): Promise<Outcome> {
  try {
    return { value: plain(await call()) };
  } catch (thrown) {
    return { error: errorFacts(thrown) };
  }
}

function errorFacts(thrown: unknown): unknown {
  if (!(thrown instanceof Error)) return thrown;
  const { code, errno, syscall, path, dest } = thrown as NodeJS.ErrnoException & { dest?: string };
  const builtIn = [TypeError, RangeError].find((kind) => thrown instanceof kind)?.name ?? "Error";
  const keys = Object.keys(thrown).sort();
  return { builtIn, text: String(thrown), code, errno, syscall, path, dest, keys };
}

const TYPE_TESTS = [
  "isFile",
  "isDirectory",
  "isSymbolicLink",
  "isFIFO",
  "isSocket",
  "isCharacterDevice",
  "isBlockDevice",
] as const;

function typesOf(value: object): string[] {
  const tests = value as Record<string, () => boolean>;
  return TYPE_TESTS.filter((name) => tests[name]!());
}

/** Values as data: bytes as hex, entries and stats as what their callers see. */
function plain(value: unknown): unknown {
  if (value instanceof ArrayBuffer) return plain(new Uint8Array(value));
  if (Buffer.isBuffer(value)) return `Buffer ${value.length} ${digest(value)}`;
  if (value instanceof Uint8Array) return `Uint8Array ${value.length} ${digest(value)}`;
  if (Array.isArray(value)) return value.map(plain);
  if (value instanceof Date) return value.getTime();
  if (value === null || typeof value !== "object") return value;
  if ("isSymbolicLink" in value && "parentPath" in value) {
    const entry = value as unknown as nodeFs.Dirent;
    const { name, parentPath, path } = entry;
    return {
      name: plain(name),
      parentPath: plain(parentPath),
      path: plain(path),
      types: typesOf(value),
    };
  }
  if ("isSymbolicLink" in value) return statsFacts(value as nodeFs.Stats);
  const entries = Object.entries(value).map(([key, field]) => [key, plain(field)]);
  return Object.fromEntries(entries);
}

function statsFacts(stats: nodeFs.Stats): unknown {
  const facts: Record<string, unknown> = { types: typesOf(stats) };
  for (const key of [
    "mode",
    "nlink",
    "uid",
    "gid",
    "rdev",
    "size",
    "mtime",
    "mtimeMs",
    "mtimeNs",
  ] as const) {
    facts[key] = plain((stats as unknown as Record<string, unknown>)[key]);
  }
  if (stats.isDirectory()) delete facts["size"]; // Another file system has other directories.
  return facts;
}

function digest(bytes: Uint8Array): string {
  const text = Buffer.from(bytes.buffer, bytes.byteOffset, bytes.length).toString("hex");
  if (text.length <= 64) return text;
  let sum = 0;
  for (const byte of bytes) sum = (sum * 31 + byte) >>> 0;
  return `${text.slice(0, 32)}.. sum ${sum}`;
}

/** The two views and how to compare them. */
export interface Twins {
  readonly volume: Volume;
  readonly ours: FsApi;
  readonly image: string;
  /** The directory that Node sees: the working directory. */
  readonly root: string;
  /** Expects that `call` does the same on both; `tidy` may take out what must differ. */
  compare(call: (fs: FsApi) => unknown, tidy?: (value: unknown) => unknown): Promise<Outcome>;
  close(): Promise<void>;
}

/** Sorted by its JSON text: for listings, whose order is each file system's own. */
export function sorted(value: unknown): unknown {
  if (!Array.isArray(value)) return value;
  return [...value].sort((a, b) => (JSON.stringify(a) < JSON.stringify(b) ? -1 : 1));
}

/**
 * Makes the tree, its image, and goes into the tree, or into a mount of the image. "writable" is as
 * "directory", with a volume that may be changed.
 */
export async function makeTwins(
  scratch: string,
  oracle: "directory" | "mount" | "writable",
): Promise<Twins> {
  const folder = nodeFs.mkdtempSync(join(scratch, `${oracle}-`));
  const source = join(folder, "tree");
  const image = join(folder, "tree.img");
  makeTree(source);
  // A symlink has a block at most, and names of 4,095 bytes are to be tried.
  const blocks = oracle === "writable" ? ["-b", "4096"] : [];
  runTool("mke2fs", ["-q", "-F", "-t", "ext4", ...blocks, "-d", source, image, "64M"]);
  const root = oracle === "mount" ? join(folder, "mount") : source;
  if (oracle === "mount") {
    nodeFs.mkdirSync(root);
    runTool("mount", ["-o", "loop,ro", image, root]);
  }
  const before = process.cwd();
  process.chdir(root);
  const volume = await openImage(image, { cache: "16MiB", writable: oracle === "writable" });
  const ours = volume.fs as unknown as FsApi;
  return {
    volume,
    ours,
    image,
    root,
    async compare(call, tidy = (value) => value) {
      const wanted = await outcomeOf(async () => tidy(await call(nodePromises)));
      const got = await outcomeOf(async () => tidy(await call(ours)));
      expect(got).toEqual(wanted);
      return wanted;
    },
    async close() {
      await volume.close();
      process.chdir(before);
      if (oracle === "mount") runTool("umount", [root]);
    },
  };
}
