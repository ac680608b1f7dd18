/**
 * What a file system must hold: a tree in memory, with bytes, attributes and extended attributes.
 *
 *     const found = tree.walk("a/b/c", true);        // as the kernel walks, through links
 *     found?.dir.names.set(found.name, new ModelNode("file"));
 */

/** A file, directory or link of the model. */
export class ModelNode {
  readonly type: "file" | "dir" | "link";
  mode = 0;
  uid = 0;
  gid = 0;
  /** Names that lead to it; for a directory it is computed. */
  nlink = 1;
  bytes: Uint8Array = new Uint8Array(0);
  target = "";
  readonly names: Map<string, ModelNode> = new Map();
  readonly xattrs: Map<string, Uint8Array> = new Map();
  /** In seconds, where it was set and nothing has changed it since. */
  mtimeSec: number | undefined;

  constructor(type: ModelNode["type"]) {
    this.type = type;
  }

  /** What `lstat` shows as its number of links. */
  get shownLinks(): number {
    if (this.type !== "dir") return this.nlink;
    return 2 + [...this.names.values()].filter(({ type }) => type === "dir").length;
  }

  write(posBytes: number, data: Uint8Array): void {
    if (data.length === 0) return;
    if (posBytes + data.length > this.bytes.length) this.setSize(posBytes + data.length);
    this.bytes.set(data, posBytes);
    this.mtimeSec = undefined;
  }

  setSize(sizeBytes: number): void {
    const next = new Uint8Array(sizeBytes);
    next.set(this.bytes.subarray(0, sizeBytes));
    this.bytes = next;
    this.mtimeSec = undefined;
  }

  zero(from: number, end: number): void {
    this.bytes.fill(0, Math.min(from, this.bytes.length), Math.min(end, this.bytes.length));
    this.mtimeSec = undefined;
  }
}

/** Where a path leads: `node` is undefined where only the last name is missing. */
export interface Walked {
  readonly dir: ModelNode;
  readonly name: string;
  readonly node: ModelNode | undefined;
}

const LINKS_MAX = 40;

/** See the head of the file. */
export class ModelTree {
  readonly root: ModelNode = new ModelNode("dir");

  /** Walks `path`, through a link at its end if `follows`; undefined if it leads nowhere. */
  walk(path: string, follows: boolean): Walked | undefined {
    let linksLeft = LINKS_MAX;
    const todo = path.split("/").reverse();
    const dirs: ModelNode[] = [this.root];
    let found: Walked = { dir: this.root, name: ".", node: this.root };
    while (todo.length > 0) {
      const name = todo.pop()!;
      if (name === "" || name === ".") continue;
      const dir = dirs.at(-1)!;
      if (found.node?.type !== "dir") return undefined;
      if (name === "..") {
        if (dirs.length > 1) dirs.pop();
        found = { dir: dirs.at(-1)!, name: ".", node: dirs.at(-1)! };
        continue;
      }
      const node = dir.names.get(name);
      const isLast = todo.length === 0;
      if (node?.type === "link" && (!isLast || follows)) {
        if (linksLeft-- === 0) return undefined;
        todo.push(...node.target.split("/").reverse());
        continue;
      }
      found = { dir, name, node };
      if (node?.type === "dir") dirs.push(node);
      else if (!isLast) return undefined;
    }
    return found;
  }

  /** All paths of `type`, or of all types. */
  paths(type?: ModelNode["type"]): string[] {
    const found: string[] = [];
    const visit = (dir: ModelNode, prefix: string): void => {
      for (const [name, node] of dir.names) {
        if (type === undefined || node.type === type) found.push(prefix + name);
        if (node.type === "dir") visit(node, `${prefix}${name}/`);
      }
    };
    visit(this.root, "");
    return found;
  }

  /** Bytes of all files. */
  get totalBytes(): number {
    let sum = 0;
    for (const path of this.paths("file")) sum += this.walk(path, false)!.node!.bytes.length;
    return sum;
  }
}
