/**
 * `quire edit IMAGE PATH`: a file of the image in the user's editor.
 *
 *     content --> private file --> editor --> changed? --> new file beside the old --> rename
 *
 *  1. The image is not open while the editor runs. If the file was changed meanwhile by others,
 *     nothing is written, and the user is told where the edited text is.
 *  2. At every moment the image holds the old content or the new one.
 *  3. Owner, mode and extended attributes are those of before.
 */
import { spawnSync } from "node:child_process";
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { basename, join } from "node:path";
import { equalBytes } from "../../lib/bytes.ts";
import { FsError } from "../../lib/errno.ts";
import type { FileHandle } from "../file-handle.ts";
import type { Volume } from "../volume.ts";
import { type Changes, refusal, type WriteOptions, withChanges } from "./changes.ts";
import { type CommandContext, withVolume } from "./command.ts";
import { printable, printJson, tellAll } from "./output.ts";

const NAME_TRIES = 100;

interface Original {
  /** Without symlinks. */
  readonly path: string;
  readonly content: Uint8Array;
}

async function originalOf(volume: Volume, path: string): Promise<Original> {
  const { fs } = volume;
  const real = String(await fs.realpath(path));
  const inode = await fs.inode(real);
  if (inode.type === "directory") throw refusal("EISDIR", "edit", path);
  if (inode.type !== "file") throw refusal("EINVAL", "edit", path, "it is no regular file");
  if (inode.attributes().nlink > 1) {
    const detail = "it has several names, which would lead to different files then";
    throw refusal("EMLINK", "edit", path, detail);
  }
  return { path: real, content: await fs.readFile(real) };
}

/** Runs the editor on `file`, in the terminal. Throws, for `path`, if it fails. */
function runEditor(file: string, path: string): void {
  const { VISUAL, EDITOR } = process.env;
  const editor = VISUAL || EDITOR || "vi";
  const done = spawnSync("/bin/sh", ["-c", `${editor} "$1"`, "sh", file], { stdio: "inherit" });
  if (done.status === 0) return;
  const detail = `the editor "${editor}" has failed, and nothing is changed`;
  throw new FsError("ECANCELED", { syscall: "edit", path, detail });
}

/** Puts `content` in the place of the file, with everything else as it is. */
async function replace(changes: Changes, path: string, content: Uint8Array): Promise<void> {
  const { fs, fileSystem } = changes.volume;
  const writer = fileSystem.writer!;
  const inode = await fs.inode(path);
  const { mode, uid, gid } = inode.attributes();
  const { temporary, handle } = await newBeside(changes.volume, path);
  try {
    try {
      await handle.writeFile(content);
      for (const [name, value] of await fileSystem.xattrs(inode)) {
        await writer.setXattr(handle.vfsInode, name, value, 0);
      }
      await writer.setAttributes(handle.vfsInode, { mode: mode & 0o7777, uid, gid });
      await handle.sync();
    } finally {
      await handle.close();
    }
    await fs.rename(temporary, path);
  } catch (error) {
    await fs.rm(temporary, { force: true });
    throw error;
  }
}

async function newBeside(
  volume: Volume,
  path: string,
): Promise<{ readonly temporary: string; readonly handle: FileHandle }> {
  const cut = path.lastIndexOf("/") + 1;
  for (let number = 0; ; number++) {
    const temporary = `${path.slice(0, cut)}.quire-edit-${number}`;
    try {
      return { temporary, handle: await volume.fs.open(temporary, "wx", 0o600) };
    } catch (error) {
      const isTaken = error instanceof FsError && error.code === "EEXIST";
      if (!isTaken || number === NAME_TRIES) throw error;
    }
  }
}

/** See the head of the file. */
export async function runEdit(
  image: string,
  path: string,
  options: WriteOptions,
  context: CommandContext,
): Promise<void> {
  const original = await withVolume(image, options, context, (volume) => originalOf(volume, path));
  if (options.dryRun === true) {
    const bytes = original.content.length;
    await withChanges(image, options, context, (changes) =>
      changes.note(`edit ${printable(original.path)}, ${bytes} bytes`),
    );
    return;
  }
  const folder = mkdtempSync(join(tmpdir(), "quire-edit-"));
  const file = join(folder, basename(original.path));
  let isKept = false;
  try {
    writeFileSync(file, original.content, { mode: 0o600 });
    runEditor(file, path);
    const edited = new Uint8Array(readFileSync(file));
    if (equalBytes(edited, original.content)) {
      if (options.json === true) {
        printJson(context.stdout, { dryRun: false, done: 0, failed: 0 });
      } else await tellAll(context, `${printable(original.path)} is not changed\n`);
      return;
    }
    isKept = true;
    await withChanges(image, options, context, async (changes) => {
      const now = await originalOf(changes.volume, original.path);
      if (!equalBytes(now.content, original.content)) {
        const detail = `it was changed meanwhile; what was edited is in ${file}`;
        throw refusal("EBUSY", "edit", original.path, detail);
      }
      const text = `replace ${printable(original.path)}, ${edited.length} bytes`;
      await changes.step(text, () => replace(changes, original.path, edited));
    });
    isKept = false;
  } finally {
    if (!isKept) rmSync(folder, { recursive: true, force: true });
  }
}
