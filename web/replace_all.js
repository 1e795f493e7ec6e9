// "Replace All" swaps a node without counting it as a change of the graph. Frontends from 1.53 on remember what to draw
// by that count: they go on drawing the removed node, and freeze. Counting once more harms no other frontend.
import { api } from '../../scripts/api.js'
import { app } from '../../scripts/app.js'

const replacements = new Set()

app.registerExtension({
  name: 'AnimateDiffNative.ReplaceAll',
  async setup() {
    const answer = await api.fetchApi('/node_replacements')
    for (const { new_node_id } of Object.values(await answer.json()).flat()) replacements.add(new_node_id)
  },
  nodeCreated(node) {
    if (!replacements.has(node.comfyClass)) return
    queueMicrotask(() => {
      node.graph?.incrementVersion?.()
      node.setDirtyCanvas?.(true, true)
    })
  }
})
