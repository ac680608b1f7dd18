/** "inodesPerGroup" to "inodes per group": names of fields as people read them. */
export function codedName(name: string): string {
  return name.replace(/([a-z0-9])([A-Z])/g, (_all, before: string, letter: string) => {
    return `${before} ${letter.toLowerCase()}`;
  });
}
