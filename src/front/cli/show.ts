/** `quire cat` and `stat`: the commands that show one file. */
import { aclFromUser, aclToText } from "../../fs/ext/acl.ts";
import type { VfsInode } from "../../fs/vfs.ts";
import { MIB } from "../../lib/units.ts";
import type { Volume } from "../volume.ts";
import { attempt, type CommandContext, type CommonOptions, placed } from "./command.ts";
import { attributesJson, modeText, octalMode, timeText, typeName } from "./format.ts";
import { isPlainText, jsonLine, printable, printJson, table, textOf, writeAll } from "./output.ts";

/** Options of `stat`. */
export interface StatCommandOptions extends CommonOptions {
  readonly dereference?: boolean;
}

const CHUNK_BYTES = MIB;

/** Writes the content of files to stdout, byte for byte; as JSON a line for each file. */
export async function runCat(
  volume: Volume,
  paths: readonly string[],
  options: CommonOptions,
  context: CommandContext,
): Promise<void> {
  const show = options.json === true ? catJson : catOne;
  for (const path of paths) {
    await attempt(context, () => placed("read", path, show(volume, path, context)));
  }
}

/** Text as it is, other content in base64. */
async function catJson(volume: Volume, path: string, context: CommandContext): Promise<void> {
  const bytes = await volume.fs.readFile(path, { signal: context.signal });
  const { text, isExact } = textOf(bytes);
  const content = isExact ? { text } : { base64: Buffer.from(bytes).toString("base64") };
  await writeAll(context, jsonLine({ path, size: bytes.length, ...content }));
}

async function catOne(volume: Volume, path: string, context: CommandContext): Promise<void> {
  const handle = await volume.fs.open(path, "r", null, { signal: context.signal });
  try {
    for (;;) {
      const buffer = Buffer.allocUnsafe(CHUNK_BYTES);
      const { bytesRead } = await handle.read(buffer, { signal: context.signal });
      if (bytesRead === 0) break;
      await writeAll(context, buffer.subarray(0, bytesRead));
    }
  } finally {
    await handle.close();
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
    await attempt(context, async () => {
      const facts = await factsOf(volume, path, options, context);
      if (options.json === true) json.push(statJson(facts));
      else await writeAll(context, table(statRows(facts), []));
    });
  }
  if (options.json === true) printJson(context.stdout, json);
}

/** What `stat` shows of one file. */
interface StatFacts {
  readonly path: string;
  readonly inode: VfsInode;
  readonly target: Uint8Array | undefined;
  readonly xattrs: ReadonlyMap<string, Uint8Array>;
}

async function factsOf(
  volume: Volume,
  path: string,
  options: StatCommandOptions,
  { signal }: CommandContext,
): Promise<StatFacts> {
  const inode = await volume.fs.inode(path, { followLinks: options.dereference === true, signal });
  const xattrs = await volume.fileSystem.xattrs(inode, signal);
  const isLink = inode.type === "symlink";
  const target = isLink ? await volume.fileSystem.readlink(inode, signal) : undefined;
  return { path, inode, target, xattrs };
}

function statJson({ path, inode, target, xattrs }: StatFacts): object {
  const values = [...xattrs].map(([name, value]) => [name, Buffer.from(value).toString("base64")]);
  return {
    path,
    ...attributesJson(inode.type, inode.attributes()),
    ...(target === undefined ? {} : { target: textOf(target).text }),
    xattrs: Object.fromEntries(values),
  };
}

function statRows({ path, inode, target, xattrs }: StatFacts): string[][] {
  const attributes = inode.attributes();
  const isDevice = inode.type === "character" || inode.type === "block";
  const { rdevMajor, rdevMinor, birthtime } = attributes;
  return [
    ["path", printable(path) + (target === undefined ? "" : ` -> ${printable(target)}`)],
    ["type", typeName(inode.type)],
    ["inode", `${attributes.ino}, generation ${attributes.generation}`],
    ["mode", `${octalMode(attributes.mode)} ${modeText(inode.type, attributes.mode)}`],
    ["owner", `uid ${attributes.uid}, gid ${attributes.gid}, project ${attributes.projectId}`],
    ["links", String(attributes.nlink)],
    ["size", `${attributes.sizeBytes} bytes, ${attributes.sectorCount} sectors of 512`],
    ...(isDevice ? [["device", `${rdevMajor}, ${rdevMinor}`]] : []),
    ["flags", `0x${attributes.flags.toString(16)}`],
    ["access", timeText(attributes.atime)],
    ["modify", timeText(attributes.mtime)],
    ["change", timeText(attributes.ctime)],
    ...(birthtime === undefined ? [] : [["birth", timeText(birthtime)]]),
    ...[...xattrs].map(([name, value]) => [
      "xattr",
      `${printable(name)} = ${shownXattr(name, value)}`,
    ]),
  ];
}

/** Access control lists in words, as `getfacl` has them; else text, or bytes in hex. */
function shownXattr(name: string, value: Uint8Array): string {
  return name.startsWith("system.posix_acl_") ? aclToText(aclFromUser(value)) : shownValue(value);
}

function shownValue(value: Uint8Array): string {
  const { text, isExact } = textOf(value);
  if (isExact && isPlainText(text)) return JSON.stringify(text);
  return `0x${Buffer.from(value).toString("hex")}`;
}
