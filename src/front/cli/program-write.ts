/** The commands that change an image or make one, as `program.ts` has those that read. */
import type { Command } from "commander";
import type { ExportOptions, ImportOptions } from "./archive.ts";
import type {
  FallocateOptions,
  RecursiveOptions,
  SetXattrOptions,
  TouchOptions,
  TruncateOptions,
} from "./attributes.ts";
import type { WriteOptions } from "./changes.ts";
import {
  type CommandContext,
  type CommonOptions,
  sizeOption,
  wholeNumber,
  withCommonOptions,
} from "./command.ts";
import type { TuneOptions } from "./maintain.ts";
import type { MakeOptions } from "./make-options.ts";
import type { LinkOptions, MakeDirectoryOptions, RemoveOptions } from "./names.ts";
import { idRange } from "./owner-option.ts";
import type { CopyOptions, PutOptions } from "./put.ts";

const number =
  (name: string) =>
  (text: string): number =>
    wholeNumber(text, name);

const size =
  (name: string) =>
  (text: string): number =>
    sizeOption(text, name);

/** Adds a command that changes an image, with the options that all of these have. */
function writeVerb(
  program: Command,
  usage: string,
  description: string,
  examples: string,
): Command {
  return readVerb(program, usage, description, examples)
    .option("--dry-run", "print what would be done, and open the image for reading only")
    .option("--verbose", "print what is done");
}

/** Adds a command with the common options, none of which takes a letter, and its examples. */
function readVerb(program: Command, usage: string, description: string, examples: string): Command {
  const command = withCommonOptions(program.command(usage).description(description), false);
  return command.addHelpText("after", `\nExamples:\n${examples}`);
}

/** Options for whose files they become. */
function withOwnerOptions(command: Command): Command {
  return command
    .option("--owner <uid:gid>", "one owner for all")
    .option("--no-owner", "root owns all")
    .option(
      "--uid-map <from:to[:count]>",
      "users become others; may come again",
      idRange("--uid-map"),
    )
    .option("--gid-map <from:to[:count]>", "groups become others", idRange("--gid-map"));
}

function addCopies(program: Command, context: CommandContext): void {
  const put = writeVerb(
    program,
    "put <image> <paths...>",
    "copy files and directories of this machine into the image, as cp -a does: SRC... DEST",
    "  quire put disk.img ./etc /etc --dry-run\n  quire put disk.img a b /srv --owner 0:0\n",
  );
  withOwnerOptions(put)
    .option("--no-xattrs", "leave extended attributes out")
    .action(async (image: string, paths: string[], options: PutOptions) =>
      (await import("./put.ts")).runPut(image, paths, options, context),
    );
  writeVerb(
    program,
    "cp <image> <source> <destination>",
    "copy within the image, with owners, times and attributes",
    "  quire cp disk.img /etc/motd /etc/motd.old\n  quire cp -r disk.img /etc /etc.old\n",
  )
    .option("-r, --recursive", "directories with all that is in them")
    .action(async (image: string, source: string, destination: string, options: CopyOptions) =>
      (await import("./put.ts")).runCopy(image, source, destination, options, context),
    );
}

function addNames(program: Command, context: CommandContext): void {
  writeVerb(
    program,
    "rm <image> <paths...>",
    "remove files",
    "  quire rm disk.img /etc/motd\n  quire rm -r disk.img /var/cache/apt --dry-run\n",
  )
    .option("-r, --recursive", "directories with all that is in them")
    .option("-f, --force", "a path that is missing is no error")
    .action(async (image: string, paths: string[], options: RemoveOptions) =>
      (await import("./names.ts")).runRemove(image, paths, options, context),
    );
  writeVerb(
    program,
    "mv <image> <source> <destination>",
    "move or rename a file or directory",
    "  quire mv disk.img /etc/hostname.new /etc/hostname\n",
  ).action(async (image: string, source: string, destination: string, options: WriteOptions) =>
    (await import("./names.ts")).runMove(image, source, destination, options, context),
  );
  writeVerb(
    program,
    "mkdir <image> <paths...>",
    "make directories",
    "  quire mkdir disk.img /opt\n  quire mkdir -p -m 700 disk.img /opt/a/b\n",
  )
    .option("-p, --parents", "make what is missing above too; one that is there is no error")
    .option("-m, --mode <mode>", "as chmod takes it (default 0755)")
    .action(async (image: string, paths: string[], options: MakeDirectoryOptions) =>
      (await import("./names.ts")).runMakeDirectory(image, paths, options, context),
    );
  writeVerb(
    program,
    "ln <image> <target> <path>",
    "give a file one more name, or make a symlink",
    "  quire ln disk.img /bin/busybox /bin/sh\n  quire ln -s disk.img ../run /var/run\n",
  )
    .option("-s, --symbolic", "make a symlink that holds TARGET as it is given")
    .option("-f, --force", "replace what is at PATH")
    .action(async (image: string, target: string, path: string, options: LinkOptions) =>
      (await import("./names.ts")).runLink(image, target, path, options, context),
    );
}

function addAttributes(program: Command, context: CommandContext): void {
  writeVerb(
    program,
    "chmod <image> <mode> <paths...>",
    "change permissions",
    "  quire chmod disk.img 640 /etc/shadow\n  quire chmod -R disk.img u=rwX,go=rX /srv\n",
  )
    .option("-R, --recursive", "directories with all that is in them")
    .action(async (image: string, mode: string, paths: string[], options: RecursiveOptions) =>
      (await import("./attributes.ts")).runChmod(image, mode, paths, options, context),
    );
  writeVerb(
    program,
    "chown <image> <owner> <paths...>",
    "change owner and group, by their numbers: UID:GID, UID or :GID",
    "  quire chown -R disk.img 1000:1000 /home/pi\n",
  )
    .option("-R, --recursive", "directories with all that is in them")
    .action(async (image: string, owner: string, paths: string[], options: RecursiveOptions) =>
      (await import("./attributes.ts")).runChown(image, owner, paths, options, context),
    );
  writeVerb(
    program,
    "setfattr <image> <paths...>",
    "set or remove an extended attribute",
    "  quire setfattr disk.img -n user.note -v hello /etc/motd\n  quire setfattr disk.img -x user.note /etc/motd\n",
  )
    .option("-n, --name <name>", "attribute to set, with its full name: user.note")
    .option("-v, --value <value>", "its value: text, 0x.. hexadecimal or 0s.. base64")
    .option("-x, --remove <name>", "attribute to remove")
    .option("-h, --no-dereference", "of a symlink itself")
    .action(async (image: string, paths: string[], options: SetXattrOptions) =>
      (await import("./attributes.ts")).runSetXattr(image, paths, options, context),
    );
}

function addContents(program: Command, context: CommandContext): void {
  writeVerb(
    program,
    "touch <image> <paths...>",
    "set times to now, and make files that are missing",
    "  quire touch disk.img /etc/ready\n  quire touch disk.img -d 2026-11-20T12:00:00Z /etc/motd\n",
  )
    .option("-c, --no-create", "make no file")
    .option("-a, --access", "the time of the last access alone")
    .option("-m, --modify", "the time of the last change alone")
    .option("-r, --reference <path>", "the times of another file of the image")
    .option("-h, --no-dereference", "of a symlink itself")
    .option("-d, --date <time>", "another time than now: @SECONDS, or as 2026-11-20T12:00:00Z")
    .action(async (image: string, paths: string[], options: TouchOptions) =>
      (await import("./attributes.ts")).runTouch(image, paths, options, context),
    );
  writeVerb(
    program,
    "truncate <image> <paths...>",
    "cut files, or let them grow with a hole",
    "  quire truncate disk.img -s 0 /var/log/syslog\n  quire truncate disk.img -s +1M /swap\n",
  )
    .requiredOption("-s, --size <size>", "new size; with + or - from the one now")
    .option("-c, --no-create", "make no file")
    .action(async (image: string, paths: string[], options: TruncateOptions) =>
      (await import("./attributes.ts")).runTruncate(image, paths, options, context),
    );
  writeVerb(
    program,
    "fallocate <image> <path>",
    "give a file its blocks, or take some away",
    "  quire fallocate disk.img /swapfile -l 64M\n  quire fallocate disk.img /big -o 1M -l 1M --punch-hole\n",
  )
    .requiredOption("-l, --length <size>", "bytes", size("--length"))
    .option("-o, --offset <size>", "from where on (default 0)", size("--offset"))
    .option("--keep-size", "the file does not grow")
    .option("--punch-hole", "make a hole")
    .option("--zero-range", "make zeros, with blocks")
    .option("--collapse-range", "take the range out")
    .option("--insert-range", "put a hole in between")
    .action(async (image: string, path: string, options: FallocateOptions) =>
      (await import("./attributes.ts")).runFallocate(image, path, options, context),
    );
}

function addArchives(program: Command, context: CommandContext): void {
  const tarIn = writeVerb(
    program,
    "import <image> <tar>",
    "write the files of a tar stream into the image; - for standard input",
    "  quire import disk.img rootfs.tar\n  xz -dc rootfs.tar.xz | quire import disk.img - --at /srv\n",
  );
  withOwnerOptions(tarIn)
    .option("--at <path>", "directory that they go to (default /)")
    .action(async (image: string, tar: string, options: ImportOptions) =>
      (await import("./archive.ts")).runImport(image, tar, options, context),
    );
  readVerb(
    program,
    "export <image> [path]",
    "write a tree as a tar stream, with extended attributes, hard links, holes and devices",
    "  quire export disk.img /etc > etc.tar\n  quire export disk.img -o all.tar\n",
  )
    .option("-o, --output <tar>", "a file; - is standard output, as without this option")
    .action(async (image: string, path: string | undefined, options: ExportOptions) =>
      (await import("./archive.ts")).runExport(image, path ?? "/", options, context),
    );
}

function addMkfs(program: Command, context: CommandContext): void {
  const mkfs = writeVerb(
    program,
    "mkfs <image>",
    "make an image with a new file system, empty or filled; nobody needs to be root",
    "  quire mkfs disk.img --type ext4 --size 512M --label root\n" +
      "  quire mkfs root.img --size auto --from ./rootfs --owner 0:0\n" +
      "  zstd -dc rootfs.tar.zst | quire mkfs root.img --from - --seed 1\n\n" +
      "With --seed or SOURCE_DATE_EPOCH equal input gives equal bytes. A tar stream of standard\n" +
      "input is kept beside the image meanwhile where its size has to be found out.\n",
  );
  withOwnerOptions(mkfs)
    .option("-t, --type <type>", "ext2, ext3 or ext4", "ext4")
    .option("-s, --size <size>", 'size of the image, or "auto" (the default with --from)')
    .option("--from <source>", "directory, tar file, or - for a tar stream of standard input")
    .option("--block-size <bytes>", "1024 to 65536", size("--block-size"))
    .option("--inode-size <bytes>", "128 to a block", size("--inode-size"))
    .option("--inodes <n>", "inodes at least", number("--inodes"))
    .option("-L, --label <text>", "label, at most 16 bytes")
    .option("--uuid <uuid>", "UUID, random, time or clear (default random, or by --seed)")
    .option("-O, --features <list>", "features to add, or with ^ to leave away: orphan_file,^64bit")
    .option("--reserved <percent>", "share of the blocks that is kept for root (default 5)")
    .option("--journal-size <size>", "size of the journal", size("--journal-size"))
    .option(
      "--seed <n>",
      "make everything that is left to chance follow from this",
      number("--seed"),
    )
    .option("--no-xattrs", "leave extended attributes of a directory out")
    .option("--force", "replace an image that is there")
    .action(async (image: string, options: MakeOptions) =>
      (await import("./mkfs.ts")).runMkfs(image, options, context),
    );
}

function addWholes(program: Command, context: CommandContext): void {
  readVerb(
    program,
    "check <image>",
    "is the image consistent? Exit code 3 if not; nothing is changed",
    "  quire check disk.img\n  quire check disk.img --json\n",
  ).action(async (image: string, options: CommonOptions) =>
    (await import("./check.ts")).runCheck(image, options, context),
  );
  writeVerb(
    program,
    "trim <image>",
    "make holes in the image file where its blocks are free",
    "  quire trim disk.img\n",
  ).action(async (image: string, options: WriteOptions) =>
    (await import("./maintain.ts")).runTrim(image, options, context),
  );
  writeVerb(
    program,
    "resize <image> [size]",
    "let the file system grow to the size of its device, or to SIZE; an image file grows too",
    "  quire resize disk.img 4G\n  quire resize disk.img 8G --dry-run\n",
  ).action(async (image: string, size: string | undefined, options: WriteOptions) =>
    (await import("./resize.ts")).runResize(image, size, options, context),
  );
  writeVerb(
    program,
    "tune <image>",
    "change the label or the UUID",
    "  quire tune disk.img --label data\n",
  )
    .option("-L, --label <text>", "label, at most 16 bytes")
    .option(
      "-U, --uuid <uuid>",
      "UUID, random, time or clear; where checksums hold it, metadata_csum_seed is set",
    )
    .action(async (image: string, options: TuneOptions) =>
      (await import("./maintain.ts")).runTune(image, options, context),
    );
  writeVerb(
    program,
    "edit <image> <path>",
    "change a file with $VISUAL or $EDITOR; it is replaced as a whole, or not at all",
    "  EDITOR=nano quire edit disk.img /etc/fstab\n",
  ).action(async (image: string, path: string, options: WriteOptions) =>
    (await import("./edit.ts")).runEdit(image, path, options, context),
  );
}

/** Adds the commands that change an image or make one. */
export function addWriteCommands(program: Command, context: CommandContext): void {
  addCopies(program, context);
  addNames(program, context);
  addAttributes(program, context);
  addContents(program, context);
  addArchives(program, context);
  addMkfs(program, context);
  addWholes(program, context);
}
