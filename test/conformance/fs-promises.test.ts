/**
 * `volume.fs` against Node's own `fs.promises`, call by call: the same value, or the same error to
 * the letter. Nothing that Node does is written down here; it is asked each time.
 */
import { constants } from "node:fs";
import { pathToFileURL } from "node:url";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { asRoot, requireTool, scratchDirectory } from "../support/tools.ts";
import {
  type FsApi,
  LONG_NAME,
  makeTwins,
  ODD_NAME,
  outcomeOf,
  sorted,
  type Twins,
} from "../support/twin-trees.ts";

const hasTools = requireTool("mke2fs") && requireTool("mkfifo");
const scratch = scratchDirectory("conformance");
let twins: Twins;

/** What no type allows, as a caller without types passes it. */
const wrong = (value: unknown): never => value as never;

/** Paths with every way to be found and every way not to be. */
const PATHS: readonly (readonly [title: string, path: string | Buffer])[] = [
  ["a file", "text"],
  ["a directory", "a/b"],
  ["the directory itself", "."],
  ["a dot inside", "a/./b/./side"],
  ["dots that go up", "a/b/../none"],
  ["a slash behind a directory", "a/b/"],
  ["slashes in a row", "a//b///side"],
  ["a slash behind a file", "text/"],
  ["a dot behind a file", "text/."],
  ["two dots behind a file", "text/.."],
  ["a name behind a file", "text/x"],
  ["a missing name", "missing"],
  ["a missing name with a slash", "missing/"],
  ["a name in a missing directory", "missing/x"],
  ["up from a missing directory", "missing/../text"],
  ["a link to a file", "to-file"],
  ["a link to a file, with a slash", "to-file/"],
  ["a link to a directory", "to-dir"],
  ["a link to a directory, with a slash", "to-dir/"],
  ["through a link to a directory", "to-dir/side"],
  ["up from behind a link", "to-dir/../b/side"],
  ["a link that ends in a slash, to a directory", "to-dir-slash"],
  ["through a link that ends in a slash", "to-dir-slash/side"],
  ["a link that ends in a slash, to a file", "to-file-slash"],
  ["a link inside that leads up", "a/up/text"],
  ["a slow link", "slow"],
  ["a dangling link", "dangling"],
  ["a link to itself", "self"],
  ["behind a link to itself", "self/x"],
  ["links in a circle", "ping"],
  ["40 links", "chain-39"],
  ["41 links", "chain-40"],
  ["42 links", "chain-41"],
  ["an empty path", ""],
  ["a NUL", "te\0xt"],
  ["a NUL in bytes", Buffer.from("te\0xt")],
  ["a name of 255 bytes", LONG_NAME],
  ["a name of 256 bytes", `${LONG_NAME}n`],
  ["a missing name of 255 bytes", "m".repeat(255)],
  ["a name of 256 bytes in a missing directory", `missing/${"m".repeat(256)}`],
  ["a name of 256 bytes behind a file", `text/${"m".repeat(256)}`],
  ["a name of 85 letters that are 255 bytes", "€".repeat(85)],
  ["a name of 86 letters that are 258 bytes", "€".repeat(86)],
  ["a path of 4095 bytes", `${"./".repeat(2045)}/text`],
  ["a path of 4096 bytes", `${"./".repeat(2046)}text`],
  ["a path of 5000 bytes", "x/".repeat(2500)],
  ["a name in bytes", Buffer.from("text")],
  ["a name that is not UTF-8", ODD_NAME],
  ["the same name as broken text", ODD_NAME.toString()],
  ["a name with a byte order mark", "\ufeffmarked"],
  ["the bytes of that name", Buffer.from("\ufeffmarked")],
  ["a name with a newline", "new\nline"],
  ["a FIFO", "fifo"],
];

const WRONG_PATHS: readonly unknown[] = [
  undefined,
  null,
  1,
  true,
  {},
  [],
  () => {},
  Symbol("s"),
  new Date(0),
  new URL("http://host/x"),
  new URL("file:///a%2Fb"),
  new URL("file://host/x"),
  new URL("file:///te%00xt"),
];

type Call = readonly [title: string, call: (fs: FsApi, path: never) => unknown];

const BY_PATH: readonly Call[] = [
  ["access", (fs, path) => fs.access(path)],
  ["stat", (fs, path) => fs.stat(path)],
  ["lstat", (fs, path) => fs.lstat(path)],
  ["stat with bigint", (fs, path) => fs.stat(path, { bigint: true })],
  ["readlink", (fs, path) => fs.readlink(path)],
  ["readFile", (fs, path) => (String(path) === "fifo" ? null : fs.readFile(path))],
  ["opendir", async (fs, path) => (await fs.opendir(path)).close()],
];

const realpathOf = (fs: FsApi, path: never): Promise<string> =>
  fs.realpath(path).then((found) => found.replace(twins.root, "") || "/");

describe.each(asRoot() ? (["directory", "mount"] as const) : (["directory"] as const))(
  "fs.promises as on a %s",
  (oracle) => {
    beforeAll(async () => {
      if (hasTools) twins = await makeTwins(scratch, oracle);
    });
    afterAll(() => twins?.close());

    describe.each([...BY_PATH, ["realpath", realpathOf] as const])("%s of", (_name, call) => {
      test.skipIf(!hasTools).each(PATHS)("%s", async (_title, path) => {
        // mke2fs gives the root of an image the time of its making.
        if (oracle === "directory" && path === ".") return;
        await twins.compare((fs) => call(fs, path as never));
      });

      test.skipIf(!hasTools)("wrong paths", async () => {
        for (const path of WRONG_PATHS) await twins.compare((fs) => call(fs, path as never));
      });
    });

    test.skipIf(!hasTools)("readdir of every path", async () => {
      for (const [, path] of PATHS) await twins.compare((fs) => fs.readdir(path), sorted);
      for (const path of WRONG_PATHS) await twins.compare((fs) => fs.readdir(wrong(path)));
    });

    test
      .skipIf(!hasTools)
      .each<[options: unknown]>([
        [undefined],
        [null],
        ["utf8"],
        ["buffer"],
        ["hex"],
        ["latin1"],
        [{ encoding: "buffer" }],
        [{ encoding: "base64" }],
        [{ withFileTypes: true }],
        [{ withFileTypes: true, encoding: "hex" }],
        [{ withFileTypes: true, encoding: "buffer" }],
        [{ recursive: true }],
        [{ recursive: true, withFileTypes: true }],
        [{ recursive: false, withFileTypes: false }],
        ["nonsense"],
        [{ encoding: "nonsense" }],
        [1],
        [true],
        [{ recursive: "yes" }],
        [{ withFileTypes: "yes" }],
      ])("readdir with %j", async (options) => {
      // Of names that are not UTF-8 with their types in another encoding, Node 20 never answers;
      // and a recursive listing of names alone follows links to directories, round and round.
      const isPlain = /recursive":|"withFileTypes":true,"encoding"/.test(JSON.stringify(options));
      const all = ["a", "a/", "./a/b", "to-dir", "many", "a/none", "."];
      for (const path of isPlain ? ["plain", "plain/", "./plain//x", "many"] : all) {
        await twins.compare((fs) => fs.readdir(path, wrong(options)), sorted);
      }
    });

    test
      .skipIf(!hasTools)
      .each<[options: unknown]>([
        [undefined],
        [{ recursive: true }],
        [{ encoding: "hex" }],
        [{ bufferSize: 1 }],
        [{ encoding: "nonsense" }],
        ["utf8"],
        [1],
      ])("opendir with %j", async (options) => {
      const list = async (fs: FsApi, path: string): Promise<unknown[]> => {
        const dir = await fs.opendir(path, wrong(options));
        const entries: unknown[] = [dir.path];
        for await (const entry of dir) entries.push(entry);
        return entries;
      };
      for (const path of ["plain", "plain/x/", "many", "a/none"]) {
        await twins.compare((fs) => list(fs, path), sorted);
      }
    });

    test.skipIf(!hasTools)("a Dir is closed by its iteration, and only once by hand", async () => {
      await twins.compare(async (fs) => {
        const iterated = await fs.opendir("many");
        for await (const _entry of iterated) break;
        const read = await outcomeOf(() => iterated.read());
        const dir = await fs.opendir("a/none");
        const first = await dir.read();
        await dir.close();
        return [read, first, await outcomeOf(() => dir.close())];
      });
    });

    test
      .skipIf(!hasTools)
      .each<[options: unknown]>([
        [undefined],
        [null],
        ["utf8"],
        ["latin1"],
        ["base64"],
        ["buffer"],
        ["nonsense"],
        [{}],
        [{ encoding: null }],
        [{ encoding: "hex" }],
        [{ encoding: "utf16le" }],
        [{ flag: "r" }],
        [{ flag: constants.O_RDONLY }],
        [{ flag: "zz" }],
        [{ flag: {} }],
        [1],
        [{ signal: {} }],
        [{ encoding: "nonsense" }],
      ])("readFile with %j", async (options) => {
      for (const path of ["text", "empty", "to-dir/side", "a", "missing"]) {
        await twins.compare((fs) => fs.readFile(path, wrong(options)));
      }
    });

    test.skipIf(!hasTools)("readFile of large, sparse and too large files", async () => {
      for (const path of ["large", "sparse", "over-2g", "huge"]) {
        await twins.compare((fs) => fs.readFile(path));
      }
    });

    test.skipIf(!hasTools)("readlink and realpath in every encoding", async () => {
      for (const options of ["utf8", "hex", "buffer", { encoding: "base64" }, "nonsense", 1, {}]) {
        await twins.compare((fs) => fs.readlink("slow", wrong(options)));
        await twins.compare((fs) => fs.readlink(Buffer.from("to-dir"), wrong(options)));
        await twins.compare(
          (fs) => fs.realpath("a/up/to-file", wrong(options)),
          (value) => (typeof value === "string" ? value.length > 0 : Buffer.isBuffer(value)),
        );
      }
    });

    test.skipIf(!hasTools)("access by every mode", async () => {
      const paths = ["text", "run", "empty", "a", "to-file", "to-dir", "fifo", "missing", "self"];
      const isMount = oracle === "mount";
      for (const path of paths) {
        for (let mode = 0; mode < 8; mode++) {
          if ((mode & constants.W_OK) !== 0 && !isMount) continue;
          if (!asRoot() && (mode & constants.X_OK) !== 0) continue;
          await twins.compare((fs) => fs.access(path, mode));
        }
      }
      for (const mode of [-1, 8, 1.5, "4", null, {}, Number.NaN]) {
        await twins.compare((fs) => fs.access("text", wrong(mode)));
      }
    });

    test.skipIf(!hasTools)("file URLs", async () => {
      const ours = pathToFileURL("/a/b/side");
      const nodes = pathToFileURL(`${twins.root}/a/b/side`);
      const missing = (fs: FsApi): URL => new URL(`${fs === twins.ours ? ours : nodes}-not`);
      await twins.compare((fs) => fs.readFile(fs === twins.ours ? ours : nodes, "utf8"));
      const error = await twins.ours.stat(missing(twins.ours)).catch((thrown: unknown) => thrown);
      expect(String(error)).toBe("Error: ENOENT: no such file or directory, stat '/a/b/side-not'");
    });

    test.skipIf(!hasTools)("statfs", async () => {
      const shape = (value: unknown): unknown =>
        Object.entries(value as object).map(([key, field]) => [key, typeof field]);
      const isMount = oracle === "mount";
      for (const options of [undefined, {}, { bigint: false }, { bigint: true }]) {
        await twins.compare((fs) => fs.statfs(".", options), isMount ? undefined : shape);
        await twins.compare((fs) => fs.statfs("to-file", options), isMount ? undefined : shape);
      }
      for (const path of ["missing", "text/x", "", "self"]) {
        await twins.compare((fs) => fs.statfs(path));
      }
    });

    test
      .skipIf(!hasTools)
      .each<[flags: unknown]>([
        [undefined],
        [null],
        ["r"],
        ["rs"],
        ["sr"],
        ["zz"],
        ["R"],
        [""],
        [0],
        [1.5],
        [2 ** 32],
        [{}],
        [constants.O_RDONLY | constants.O_DIRECTORY],
        [constants.O_RDONLY | constants.O_NOFOLLOW],
        [constants.O_RDONLY | constants.O_NOFOLLOW | constants.O_DIRECTORY],
        [constants.O_RDONLY | constants.O_NOATIME],
      ])("open with flags %j", async (flags) => {
      for (const path of ["text", "a", "to-file", "to-dir", "dangling", "missing", "self"]) {
        await twins.compare(async (fs) => {
          const handle = await fs.open(path, wrong(flags));
          await handle.close();
          return handle.fd;
        });
      }
    });

    test.skipIf(!hasTools)("open with wrong modes", async () => {
      for (const mode of ["x", "089", "644", -1, 2 ** 32, 1.5, {}, null, undefined]) {
        await twins.compare(async (fs) => (await fs.open("text", "r", wrong(mode))).close());
      }
    });
  },
);

test("every function of fs.promises is there", async () => {
  const names = Object.keys(await import("node:fs/promises"));
  const { VolumeFs } = await import("../../src/front/promises.ts");
  const has = (name: string): boolean => name in VolumeFs.prototype;
  const missing = names.filter((name) => !has(name));
  expect(missing.sort()).toEqual(["constants", "default"]);
});
