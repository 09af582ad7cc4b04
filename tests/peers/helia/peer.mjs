// A Helia node that a test drives: one JSON object per line on stdin, one answer per line on stdout.
//
//   {"do":"add","bytes":"<base64>"}   {"do":"add","file":"<path>"}   → {"cid","len_bytes"}
//   {"do":"add","directory":"<path>"}                                → {"cid"}
//   {"do":"get","cid":"<cid>"}                                       → {"len_bytes","sha256"}
//   {"do":"ls","cid":"<cid>"}                                        → {"names"}
//   {"do":"dial","addr":"<multiaddr>"}                               → {"peer"}
//   {"do":"peers"}                                                   → {"peers"}
//   {"do":"stop"}                                                    → {}
//
// The first line it prints is {"peer","addrs"}. A failed command answers {"error"}. A command may carry an "id",
// which its answer repeats. Loopback only: no bootstrap peers, no discovery, no delegated routers, no HTTP.
import { createHash } from 'node:crypto'
import { createReadStream } from 'node:fs'
import { readdir } from 'node:fs/promises'
import { join } from 'node:path'
import { createInterface } from 'node:readline'
import { noise } from '@chainsafe/libp2p-noise'
import { yamux } from '@chainsafe/libp2p-yamux'
import { withBitswap } from '@helia/bitswap'
import { withLibp2pLight } from '@helia/libp2p'
import { unixfs } from '@helia/unixfs'
import { identify } from '@libp2p/identify'
import { tcp } from '@libp2p/tcp'
import { webSockets } from '@libp2p/websockets'
import { multiaddr } from '@multiformats/multiaddr'
import { createHeliaLight } from 'helia'
import { CID } from 'multiformats/cid'

const libp2p = {
  addresses: { listen: ['/ip4/127.0.0.1/tcp/0', '/ip4/127.0.0.1/tcp/0/ws'] },
  transports: [tcp(), webSockets()],
  connectionEncrypters: [noise()],
  streamMuxers: [yamux()],
  services: { identify: identify() },
  connectionGater: { denyDialMultiaddr: () => false }
}
const node = await withBitswap(withLibp2pLight(createHeliaLight(), libp2p)).start()
const fs = unixfs(node)

const print = (answer) => process.stdout.write(JSON.stringify(answer) + '\n')

async function * directory (root, under = '') {
  for (const entry of await readdir(join(root, under), { withFileTypes: true })) {
    const path = join(under, entry.name)
    if (entry.isDirectory()) yield * directory(root, path)
    else yield { path, content: createReadStream(join(root, path)) }
  }
}

const commands = {
  async add ({ bytes, file, directory: folder }) {
    if (folder != null) {
      let cid
      for await (const entry of fs.addAll(directory(folder), { wrapWithDirectory: true })) cid = entry.cid
      return { cid: cid.toString() }
    }
    const cid = file == null
      ? await fs.addBytes(Buffer.from(bytes, 'base64'))
      : await fs.addByteStream(createReadStream(file))
    return { cid: cid.toString() }
  },
  async get ({ cid }) {
    const hash = createHash('sha256')
    let length = 0
    for await (const chunk of fs.cat(CID.parse(cid))) {
      hash.update(chunk)
      length += chunk.length
    }
    return { len_bytes: length, sha256: hash.digest('hex') }
  },
  async ls ({ cid }) {
    const names = []
    for await (const entry of fs.ls(CID.parse(cid))) names.push(entry.name)
    return { names }
  },
  async dial ({ addr }) {
    const connection = await node.libp2p.dial(multiaddr(addr))
    return { peer: connection.remotePeer.toString() }
  },
  async peers () {
    return { peers: node.libp2p.getPeers().map(String) }
  },
  async stop () {
    await node.stop()
    return {}
  }
}

print({ peer: node.libp2p.peerId.toString(), addrs: node.libp2p.getMultiaddrs().map(String) })
for await (const line of createInterface({ input: process.stdin })) {
  const { id, do: name, ...options } = JSON.parse(line)
  try {
    print({ id, ...await commands[name](options) })
  } catch (error) {
    print({ id, error: String(error?.message ?? error) })
  }
  if (name === 'stop') break
}
process.exit(0)
