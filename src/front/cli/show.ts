/** `quire cat` and `stat`: the commands that show one file. */
import { MIB } from "../../lib/units.ts";
import type { Volume } from "../volume.ts";
import type { CommandContext, CommonOptions } from "./command.ts";
import { attributesJson, modeText, octalMode, timeText } from "./format.ts";
import { isPlainText, printable, printJson, table, textOf, writeAll } from "./output.ts";

/** Options of `stat`. */
export interface StatCommandOptions extends CommonOptions {
  readonly dereference?: boolean;
}

const CHUNK_BYTES = MIB;

/** Writes the content of files to stdout, byte for byte. */
export async function runCat(
  volume: Volume,
  paths: readonly string[],
  context: CommandContext,
): Promise<void> {
  for (const path of paths) {
    const handle = await volume.fs.open(path, "r", null, { signal: context.signal });
    try {
      for (;;) {
        const buffer = Buffer.allocUnsafe(CHUNK_BYTES);
        const { bytesRead } = await handle.read(buffer, { signal: context.signal });
        if (bytesRead === 0) break;
        await writeAll(context.stdout, buffer.subarray(0, bytesRead));
      }
    } finally {
      await handle.close();
    }
  }
}

/** Shows inodes: attributes, symlink target, extended attributes. */
export async function runStat(
  volume: Volume,
  paths: readonly string[],
  options: StatCommandOptions,
  context: CommandContext,
): Promise<void> {
  const json: object[] = [];
  for (const path of paths) {
    const look = { followLinks: options.dereference === true, signal: context.signal };
    const inode = await volume.fs.inode(path, look);
    const xattrs = await volume.fileSystem.xattrs(inode, context.signal);
    const isLink = inode.type === "symlink";
    const target = isLink ? await volume.fileSystem.readlink(inode, context.signal) : undefined;
    const attributes = inode.attributes();
    if (options.json === true) {
      json.push({
        path,
        ...attributesJson(inode.type, attributes),
        ...(target === undefined ? {} : { target: textOf(target).text }),
        xattrs: Object.fromEntries(
          [...xattrs].map(([name, value]) => [name, Buffer.from(value).toString("base64")]),
        ),
      });
      continue;
    }
    const rows = [
      ["path", printable(path) + (target === undefined ? "" : ` -> ${printable(target)}`)],
      ["type", inode.type],
      ["inode", `${attributes.ino} generation ${attributes.generation}`],
      ["mode", `${octalMode(attributes.mode)} ${modeText(inode.type, attributes.mode)}`],
      ["owner", `uid ${attributes.uid} gid ${attributes.gid} project ${attributes.projectId}`],
      ["links", String(attributes.nlink)],
      ["size", `${attributes.sizeBytes} bytes, ${attributes.sectorCount} sectors of 512`],
      ["device", `${attributes.rdevMajor}, ${attributes.rdevMinor}`],
      ["flags", `0x${attributes.flags.toString(16)}`],
      ["access", timeText(attributes.atime)],
      ["modify", timeText(attributes.mtime)],
      ["change", timeText(attributes.ctime)],
      ["birth", attributes.birthtime === undefined ? "-" : timeText(attributes.birthtime)],
      ...[...xattrs].map(([name, value]) => ["xattr", `${printable(name)} = ${shownValue(value)}`]),
    ];
    await writeAll(context.stdout, table(rows, []));
  }
  if (options.json === true) printJson(context.stdout, json);
}

function shownValue(value: Uint8Array): string {
  const { text, isExact } = textOf(value);
  if (isExact && isPlainText(text)) return JSON.stringify(text);
  return `0x${Buffer.from(value).toString("hex")}`;
}
