/**
 * The writing half of `fs.promises` on a volume, which must not be changed, against Node's own on a
 * read-only mount of the same image: which error comes first, and every letter of it.
 */
import { constants } from "node:fs";
import type { FileHandle } from "node:fs/promises";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { requireRoot, requireTool, scratchDirectory } from "../support/tools.ts";
import {
  type FsApi,
  makeTwins,
  type Outcome,
  outcomeOf,
  type Twins,
} from "../support/twin-trees.ts";

const canMount = requireTool("mke2fs") && requireTool("mkfifo") && requireRoot("a read-only mount");
const scratch = scratchDirectory("read-only");
let twins: Twins;

beforeAll(async () => {
  if (canMount) twins = await makeTwins(scratch, "mount");
});
afterAll(() => twins?.close());

const PATHS: readonly string[] = [
  "text",
  "a/b",
  "a/none",
  "a/none/",
  ".",
  "missing",
  "missing/",
  "missing/x",
  "text/x",
  "text/",
  "to-file",
  "to-dir",
  "to-dir/",
  "to-dir/new",
  "dangling",
  "self",
  "",
  "fifo",
  "a/..",
  `${"n".repeat(256)}`,
];

type Call = readonly [title: string, call: (fs: FsApi, path: string) => Promise<unknown>];

const BY_PATH: readonly Call[] = [
  ["chmod", (fs, path) => fs.chmod(path, 0o600)],
  ["chown", (fs, path) => fs.chown(path, 1, 2)],
  ["lchown", (fs, path) => fs.lchown(path, 1, 2)],
  ["utimes", (fs, path) => fs.utimes(path, 1, new Date(2000))],
  ["lutimes", (fs, path) => fs.lutimes(path, 1, 2)],
  ["truncate", (fs, path) => fs.truncate(path)],
  ["truncate to 5", (fs, path) => fs.truncate(path, 5)],
  ["unlink", (fs, path) => fs.unlink(path)],
  ["rmdir", (fs, path) => fs.rmdir(path)],
  ["rm", (fs, path) => fs.rm(path)],
  ["rm with force", (fs, path) => fs.rm(path, { force: true })],
  ["mkdir", (fs, path) => fs.mkdir(path)],
  ["mkdir with recursive", (fs, path) => fs.mkdir(path, { recursive: true })],
  ["symlink", (fs, path) => fs.symlink("target", path)],
  ["link to it", (fs, path) => fs.link("text", path)],
  ["link of it", (fs, path) => fs.link(path, "new")],
  ["rename to it", (fs, path) => fs.rename("text", path)],
  ["rename of it", (fs, path) => fs.rename(path, "new")],
  ["copyFile to it", (fs, path) => fs.copyFile("text", path)],
  ["copyFile of it", (fs, path) => fs.copyFile(path, "new")],
  ["writeFile", (fs, path) => fs.writeFile(path, "x")],
  ["appendFile", (fs, path) => fs.appendFile(path, "x")],
  ["writeFile with wx", (fs, path) => fs.writeFile(path, "x", { flag: "wx" })],
];

const FLAGS: readonly (string | number)[] = [
  "r+",
  "w",
  "wx",
  "w+",
  "wx+",
  "a",
  "ax",
  "a+",
  constants.O_RDONLY | constants.O_CREAT,
  constants.O_RDONLY | constants.O_TRUNC,
  constants.O_RDONLY | constants.O_CREAT | constants.O_EXCL,
  constants.O_WRONLY | constants.O_NOFOLLOW,
  constants.O_RDWR | constants.O_DIRECTORY,
];

describe("the writing half", () => {
  test.skipIf(!canMount).each(BY_PATH)("%s", async (_title, call) => {
    for (const path of PATHS) {
      if (path === "fifo") continue; // Opening it would wait for a reader.
      await twins.compare(async (fs) => [path, await outcomeOf(() => call(fs, path))]);
    }
  });

  test.skipIf(!canMount).each(FLAGS)("open with %s", async (flags) => {
    for (const path of PATHS) {
      if (path === "fifo") continue;
      await twins.compare(async (fs) => {
        const opened = await outcomeOf(async () => {
          const handle = await fs.open(path, flags);
          await handle.close();
        });
        return [path, opened];
      });
    }
  });

  test.skipIf(!canMount)("wrong arguments", async () => {
    const wrong = (value: unknown): never => value as never;
    const calls: readonly ((fs: FsApi) => unknown)[] = [
      ...["x", "9", {}, -1, 2 ** 32, undefined].map(
        (mode) => (fs: FsApi) => fs.chmod("text", wrong(mode)),
      ),
      ...["x", {}, -2, 2 ** 32, 1.5, undefined].map(
        (id) => (fs: FsApi) => fs.chown("text", wrong(id), 1),
      ),
      ...["x", {}, -2].map((id) => (fs: FsApi) => fs.lchown("text", 1, wrong(id))),
      ...["x", {}, Number.NaN, undefined].map(
        (time) => (fs: FsApi) => fs.utimes("text", wrong(time), 1),
      ),
      (fs) => fs.chmod(wrong(1), 0o600),
      (fs) => fs.unlink(wrong({})),
      (fs) => fs.rename(wrong(1), "x"),
      (fs) => fs.rename("text", wrong(1)),
      (fs) => fs.link(wrong(1), "x"),
      (fs) => fs.symlink(wrong(1), "x"),
      (fs) => fs.symlink("x", wrong(1)),
      (fs) => fs.copyFile(wrong(1), "x"),
      (fs) => fs.copyFile("text", "a\0b"),
      (fs) => fs.mkdtemp("a/new-").catch((error: Error) => error.message.slice(0, -10)),
      (fs) => fs.mkdtemp("missing/new-").catch((error: Error) => error.message.slice(0, -10)),
      (fs) => fs.mkdtemp(wrong(1)),
      (fs) => fs.lchmod("text", 0o600),
      (fs) => fs.writeFile("text", wrong(1)),
      (fs) => fs.writeFile("text", "x", "nonsense" as BufferEncoding),
    ];
    for (const [at, call] of calls.entries()) {
      await twins.compare(async (fs) => [at, await outcomeOf(() => call(fs))]);
    }
  });

  test.skipIf(!canMount)("handles opened for reading refuse to write", async () => {
    const calls: readonly ((handle: FileHandle) => unknown)[] = [
      (handle) => handle.write("x"),
      (handle) => handle.write(Buffer.from("x")),
      (handle) => handle.writev([Buffer.from("x")]),
      (handle) => handle.writeFile("x"),
      (handle) => handle.appendFile("x"),
      (handle) => handle.truncate(),
      (handle) => handle.truncate(3),
      (handle) => handle.truncate("x" as never),
      (handle) => handle.chmod(0o600),
      (handle) => handle.chmod("x"),
      (handle) => handle.chown(1, 1),
      (handle) => handle.chown("x" as never, 1),
      (handle) => handle.utimes(1, 1),
      (handle) => handle.utimes("x", 1),
      (handle) => handle.sync(),
      (handle) => handle.datasync(),
    ];
    for (const [at, call] of calls.entries()) {
      await twins.compare(async (fs): Promise<[number, Outcome]> => {
        const handle = await fs.open("text");
        const outcome = await outcomeOf(() => call(handle));
        await handle.close();
        return [at, outcome];
      });
    }
  });

  test.skipIf(!canMount)("a write stream of such a handle fails", async () => {
    await twins.compare(async (fs) => {
      const handle = await fs.open("text");
      const stream = handle.createWriteStream();
      const error = await new Promise<unknown>((resolve) => {
        stream.once("error", resolve);
        stream.write("x");
      });
      return outcomeOf(() => Promise.reject(error));
    });
  });

  test.skipIf(!canMount)(
    "cp and rm of trees fail, with the errno of a read-only volume",
    async () => {
      const { ours } = twins;
      await expect(ours.cp("a", "new", { recursive: true })).rejects.toMatchObject({
        code: "EROFS",
      });
      await expect(ours.rm("a", { recursive: true })).rejects.toMatchObject({ code: "EROFS" });
      await expect(ours.rm("missing", { recursive: true })).rejects.toMatchObject({
        code: "ENOENT",
      });
      await ours.rm("missing", { recursive: true, force: true });
    },
  );
});
